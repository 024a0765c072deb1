/* SPDX-License-Identifier: AGPL-3.0-only */
/* HTTP to one agent: libcurl, with bounds, a few retries, answers line by line, and Ctrl-C that is
 * noticed. */
#ifndef CHP_CLI_CLIENT_H
#define CHP_CLI_CLIENT_H

#include "base/backoff.h"
#include "cli/endpoint.h"

enum {
    CLI_BODY_MAX_BYTES = 128 * 1024 * 1024, /* show: 256 sites, 64 KiB each, every byte escaped */
    CLI_LINE_MAX_BYTES =
        1024 * 1024, /* one result: 64 KiB of output, escaped, and again as base64 */
    CLI_TICK_MS = 100,
};

struct cli_client;

struct cli_request {
    const char *method;
    const char *path; /* with query, beginning with '/' */
    struct chp_bytes body;
    int body_fd; /* streamed from its beginning when body_size > 0, and body is empty */
    uint64_t body_size;
    const char *content_type; /* of the body; NULL: application/json */
    const char *accept;       /* NULL: application/json */
    const char *key;          /* Idempotency-Key, or NULL */
    uint64_t timeout_ms; /* of the whole call; 0: 30 s without a line callback, none with one */
    unsigned tries;      /* 0: 3 */
    const char *scope;   /* expression that an error may point into, or NULL */
    /* Gets each line of a 200 as it comes, without its end; false stops the transfer, which then
     * counts as ended well. */
    bool (*on_line)(void *user, const char *line, size_t len);
    /* Called about every CLI_TICK_MS. */
    void (*on_tick)(void *user);
    void *user;
};

struct cli_response {
    long status;
    struct chp_buf body; /* what did not go to on_line */
    uint64_t sent_bytes; /* of the body */
};

/* endpoint's strings must outlive the client. Catches SIGINT from here on. */
struct cli_client *cli__client_new(const struct cli_endpoint *endpoint);
void cli__client_free(struct cli_client *client);
const char *cli__client_shown(const struct cli_client *client);

/* 0 when there is a whole HTTP answer, whatever its status. Tried again while the connection is
 * refused or the status is 503 or 429 (Retry-After is honoured up to 5 s), and when the connection
 * breaks before an answer to a GET or to a request with a key, since neither can act twice.
 * CHP_EUNAVAILABLE: not reached. CHP_EIO: broke in the middle. CHP_ETIMEOUT. CHP_ECANCELED: Ctrl-C.
 * CHP_EMALFORMED, CHP_ETOOBIG: not an answer of an agent. response is the caller's to deinit. */
int cli__client_call(struct cli_client *client, const struct cli_request *request,
                     struct cli_response *response, struct chp_error *error) CHP_MUST_CHECK;
void cli__response_deinit(struct cli_response *response);
/* Ctrl-C was pressed. */
bool cli__interrupted(void);
/* Pauses of a quarter of first_ms and more, for chp_backoff_next_ms. */
void cli__backoff_init(struct chp_backoff *backoff, uint64_t first_ms, uint64_t max_ms);
/* Waits, at most until Ctrl-C. */
void cli__sleep(uint64_t ms);

#endif
