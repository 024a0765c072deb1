/* SPDX-License-Identifier: AGPL-3.0-only */
/* A command line in one argument, as its words. */
#ifndef CHP_CLI_SPLIT_H
#define CHP_CLI_SPLIT_H

#include "base/arena.h"

/*
 * Words as a POSIX shell makes them of quotes, backslashes and blanks, in arena; nothing is
 * expanded. What a shell would do more with (operators, variables, patterns) is refused where it is
 * not quoted, since it would not be done. CHP_EINVAL with a sentence, also when there is no word,
 * or more than CHP_ARGV_MAX.
 */
int cli__split(const char *line, struct chp_arena *arena, const char ***words, size_t *count,
               struct chp_error *error) CHP_MUST_CHECK;

#endif
