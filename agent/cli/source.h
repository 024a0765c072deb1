/* SPDX-License-Identifier: AGPL-3.0-only */
/* A file to be sent, whose size is known before its first byte leaves. */
#ifndef CHP_CLI_SOURCE_H
#define CHP_CLI_SOURCE_H

#include "base/buf.h"

struct cli_source {
    int fd; /* read with pread from 0 */
    uint64_t size;
};

/* path "-" is standard input. What is not a regular file (a pipe, <(command)) is copied to a
 * nameless temporary one, up to 4 GiB. CHP_EINVAL or CHP_ETOOBIG with a sentence. */
int cli__source_open(const char *path, struct cli_source *source,
                     struct chp_error *error) CHP_MUST_CHECK;
void cli__source_close(struct cli_source *source);
/* The whole into out; the caller has checked the size. */
int cli__source_read(const struct cli_source *source, struct chp_buf *out,
                     struct chp_error *error) CHP_MUST_CHECK;
/* SHA-256 as text, into 65 bytes. */
int cli__source_hash(const struct cli_source *source, char *text,
                     struct chp_error *error) CHP_MUST_CHECK;

/* Appends a resolution matrix, all of the file at path, which messages call name. Codes as of open
 * and read, or CHP_ETOOBIG. */
int cli__source_read_matrix(const char *path, const char *name, struct chp_buf *text,
                            struct chp_error *error) CHP_MUST_CHECK;

#endif
