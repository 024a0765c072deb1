/* SPDX-License-Identifier: AGPL-3.0-only */
/* The HTTP door (design section 8): evhttp, the JSON API of schema/openapi.json, and the research
 * prototype's forms. */
#ifndef CHP_GATEWAY_HTTP_DOOR_H
#define CHP_GATEWAY_HTTP_DOOR_H

#include "port/agent.h"

#include <event2/event.h>

struct chp_http_door;

struct chp_http_token {
    const char *name;  /* the principal */
    const char *token; /* secret, at least 16 characters */
};

struct chp_http_config {
    struct event_base *base;
    const char *listen;      /* "127.0.0.1:8080", "[::1]:8080"; NULL: no TCP */
    const char *socket_path; /* unix socket, or NULL */
    const unsigned
        *socket_uids; /* who may use the unix socket besides root and the agent's own user */
    size_t socket_uid_count;
    const struct chp_http_token *tokens;
    size_t token_count;
    const char *const
        *hosts; /* allowed Host values besides loopback names and the listen address */
    size_t host_count;
    size_t connections_max;
    uint64_t body_max_bytes; /* of a form or an uploaded blob: streamed to disk */
    uint64_t json_max_bytes; /* of a JSON body: in memory */
    uint64_t idle_timeout_ms;
};

struct chp_http_door *chp_http_door_new(const struct chp_http_config *config,
                                        const struct chp_agent_port *agent,
                                        struct chp_error *error);
/* Replaces tokens, hosts and uids (SIGHUP). */
void chp_http_door_reload(struct chp_http_door *door, const struct chp_http_config *config);
/* Listens no more: who comes now is refused by the system, and knows that nothing was taken. The
 * connections that are there are served, each for one more answer. */
void chp_http_door_stop(struct chp_http_door *door);
/* Whether a request is being read or answered. Streams do not count: they have no end. */
bool chp_http_door_busy(const struct chp_http_door *door);
/* Closes connections and frees. */
void chp_http_door_free(struct chp_http_door *door);
/* The port that it listens on (useful with port 0), 0 when there is none. */
unsigned chp_http_door_port(const struct chp_http_door *door);

#endif
