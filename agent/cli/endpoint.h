/* SPDX-License-Identifier: AGPL-3.0-only */
/* Which agent is asked, and with which token. */
#ifndef CHP_CLI_ENDPOINT_H
#define CHP_CLI_ENDPOINT_H

#include "base/arena.h"

/* In the arena that it was found with. */
struct cli_endpoint {
    const char *url;    /* without user information and without a '/' at the end; "http://localhost"
                           for a unix socket */
    const char *socket; /* path of the unix socket, or NULL */
    const char *shown;  /* for messages: never has a token */
    const char *token;  /* or NULL */
};

/* site and api: the options, or NULL. Order: api; site (CHEOPS_API_<SITE>, else its line in the
 * sites file); CHEOPS_API; http://127.0.0.1:8440. Token: user information of the URL, CHEOPS_TOKEN,
 * the file CHEOPS_TOKEN_FILE, the file "token" beside the sites file. CHP_EINVAL, or CHP_ENOTFOUND
 * when no agent of the site is known, with a sentence that has no secret in it. */
int cli__endpoint_find(const char *site, const char *api, struct chp_arena *arena,
                       struct cli_endpoint *endpoint, struct chp_error *error) CHP_MUST_CHECK;
/* "CHEOPS_API_SAINT_MALO" for "Saint-Malo". */
char *cli__endpoint_variable(const char *site, struct chp_arena *arena);
/* Names in the sites file, for completion; none when it cannot be read. */
const char **cli__endpoint_sites(struct chp_arena *arena, size_t *count);

#endif
