/* SPDX-License-Identifier: AGPL-3.0-only */
/* The one table of what the door answers, and how a request finds its row. schema/openapi.json
 * describes each. */
#include "gateway/internal.h"

#include <string.h>

static const struct gateway_route routes[] = {
    {EVHTTP_REQ_POST, "/v1/operations", GATEWAY_JSON_BODY, false, "wait timeout_ms progress",
     gateway__operation_create},
    {EVHTTP_REQ_GET, "/v1/operations", GATEWAY_NO_BODY, false, "resource state site before limit",
     gateway__operation_list},
    {EVHTTP_REQ_GET, "/v1/operations/{id}", GATEWAY_NO_BODY, false, NULL, gateway__operation_get},
    {EVHTTP_REQ_GET, "/v1/operations/{id}/watch", GATEWAY_NO_BODY, false, "progress",
     gateway__operation_watch},
    {EVHTTP_REQ_POST, "/v1/operations/{id}/resolve", GATEWAY_JSON_BODY, false, "timeout_ms",
     gateway__operation_resolve},
    {EVHTTP_REQ_GET, "/v1/resources", GATEWAY_NO_BODY, false, "after limit",
     gateway__resource_list},
    {EVHTTP_REQ_GET, "/v1/resources/{id}", GATEWAY_NO_BODY, false, NULL, gateway__resource_get},
    {EVHTTP_REQ_GET, "/v1/resources/{id}/history", GATEWAY_NO_BODY, false, "limit",
     gateway__resource_history},
    {EVHTTP_REQ_POST, "/v1/resources/{id}/plan", GATEWAY_JSON_BODY, false, NULL,
     gateway__resource_plan},
    {EVHTTP_REQ_POST, "/v1/resources/{id}/diff", GATEWAY_JSON_BODY, false, NULL,
     gateway__resource_diff},
    {EVHTTP_REQ_POST, "/v1/resources/{id}/show", GATEWAY_JSON_BODY, false, NULL,
     gateway__resource_show},
    {EVHTTP_REQ_GET, "/v1/sites", GATEWAY_NO_BODY, false, NULL, gateway__site_list},
    {EVHTTP_REQ_GET, "/v1/events", GATEWAY_NO_BODY, false, "after limit follow",
     gateway__event_list},
    {EVHTTP_REQ_POST, "/v1/scope/explain", GATEWAY_JSON_BODY, false, NULL, gateway__scope_explain},
    {EVHTTP_REQ_GET, "/v1/dead", GATEWAY_NO_BODY, false, NULL, gateway__dead_list},
    {EVHTTP_REQ_GET, "/v1/dead/{id}", GATEWAY_NO_BODY, false, NULL, gateway__dead_get},
    {EVHTTP_REQ_DELETE, "/v1/dead/{id}", GATEWAY_NO_BODY, false, NULL, gateway__dead_drop},
    {EVHTTP_REQ_POST, "/v1/dead/{id}/requeue", GATEWAY_NO_BODY, false, NULL, gateway__dead_requeue},
    {EVHTTP_REQ_GET, "/v1/doctor", GATEWAY_NO_BODY, false, NULL, gateway__doctor},
    {EVHTTP_REQ_POST, "/v1/blobs", GATEWAY_RAW_BODY, false, NULL, gateway__blob_create},
    {EVHTTP_REQ_GET, "/v1/status", GATEWAY_NO_BODY, false, NULL, gateway__status},
    {EVHTTP_REQ_POST, "/exec/{id}", GATEWAY_FORM_BODY, false, NULL, gateway__prototype_exec},
    {EVHTTP_REQ_POST, "/show/{id}", GATEWAY_FORM_BODY, false, NULL, gateway__prototype_show},
    {EVHTTP_REQ_GET, "/healthz", GATEWAY_NO_BODY, true, NULL, gateway__health},
    {EVHTTP_REQ_GET, "/readyz", GATEWAY_NO_BODY, true, NULL, gateway__ready},
    {EVHTTP_REQ_GET, "/metrics", GATEWAY_NO_BODY, false, NULL, gateway__metrics},
    {EVHTTP_REQ_GET, "/openapi.json", GATEWAY_NO_BODY, false, NULL, gateway__openapi},
};

static const struct gateway_route options_route = {
    EVHTTP_REQ_OPTIONS, "", GATEWAY_NO_BODY, false, NULL, gateway__reply_allow};

/* Compares segment by segment; {id} matches one that is not empty, which *id and *id_len then show.
 */
static bool path_matches(const char *pattern, const char *path, const char **id, size_t *id_len)
{
    static const char hole[] = "{id}";
    while (*pattern != '\0') {
        if (strncmp(pattern, hole, sizeof hole - 1) == 0) {
            *id = path;
            *id_len = strcspn(path, "/");
            if (*id_len == 0) {
                return false;
            }
            pattern += sizeof hole - 1;
            path += *id_len;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

static const char *method_name(enum evhttp_cmd_type method)
{
    return method == EVHTTP_REQ_POST     ? "POST"
           : method == EVHTTP_REQ_DELETE ? "DELETE"
                                         : "GET, HEAD";
}

/* Every method that the path takes, as in Allow; NULL when there is no such path. */
static const char *allowed_methods(struct gateway_exchange *exchange, const char *path)
{
    struct chp_buf out = {0};
    const char *id;
    size_t id_len;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (path_matches(routes[i].pattern, path, &id, &id_len)) {
            chp_buf_printf(&out, "%s%s", out.len > 0 ? ", " : "", method_name(routes[i].method));
        }
    }
    const char *allow = NULL;
    if (out.len > 0) {
        allow = chp_arena_printf(&exchange->arena, "%s, OPTIONS", chp_buf_text(&out));
    }
    chp_buf_deinit(&out);
    return allow;
}

static int decode_id(struct gateway_exchange *exchange, const char *text, size_t len)
{
    const char *encoded = chp_arena_strndup(&exchange->arena, text, len);
    size_t decoded_len = 0;
    char *decoded = evhttp_uridecode(encoded, 0, &decoded_len);
    CHP_ASSERT(decoded != NULL);
    if (strlen(decoded) == decoded_len && chp_utf8_valid(decoded, decoded_len)) {
        exchange->id = chp_arena_strdup(&exchange->arena, decoded);
    }
    free(decoded);
    if (exchange->id == NULL) {
        gateway__refuse(exchange, 0, CHP_EINVAL, "the id in the path is not UTF-8 text");
        return CHP_EINVAL;
    }
    return 0;
}

static bool param_known(const char *params, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = params; at != NULL && *at != '\0'; at += strspn(at, " ")) {
        size_t at_len = strcspn(at, " ");
        if (at_len == len && strncmp(at, name, len) == 0) {
            return true;
        }
        at += at_len;
    }
    return false;
}

static int parse_query(struct gateway_exchange *exchange, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        return 0;
    }
    evhttp_clear_headers(&exchange->query);
    if (evhttp_parse_query_str(text, &exchange->query) != 0) {
        gateway__refuse(exchange, 0, CHP_EMALFORMED, "the query string cannot be read");
        return CHP_EMALFORMED;
    }
    const char *params = exchange->route->params;
    for (struct evkeyval *entry = exchange->query.tqh_first; entry != NULL;
         entry = entry->next.tqe_next) {
        if (!chp_utf8_valid(entry->key, strlen(entry->key)) ||
            !chp_utf8_valid(entry->value, strlen(entry->value)) ||
            !param_known(params, entry->key)) {
            gateway__refuse(exchange, 0, CHP_EINVAL,
                            "query parameter \"%.100s\" is not known or not UTF-8: allowed are %s",
                            entry->key, params != NULL ? params : "none");
            return CHP_EINVAL;
        }
    }
    return 0;
}

static int refuse_unrouted(struct gateway_exchange *exchange, const char *path)
{
    if (exchange->allow == NULL) {
        gateway__refuse(exchange, 0, CHP_ENOTFOUND, "there is no %.200s here: see /openapi.json",
                        path);
        return CHP_ENOTFOUND;
    }
    gateway__refuse(exchange, 405, CHP_EINVAL, "%.200s takes %s", path, exchange->allow);
    return CHP_EINVAL;
}

int gateway__route(struct gateway_exchange *exchange)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(exchange->request);
    const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
    enum evhttp_cmd_type method = evhttp_request_get_command(exchange->request);
    const char *id = NULL;
    size_t id_len = 0;
    path = path != NULL ? path : "";
    exchange->head = method == EVHTTP_REQ_HEAD;
    method = exchange->head ? EVHTTP_REQ_GET : method;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0] && exchange->route == NULL; i++) {
        id = NULL;
        if (routes[i].method == method && path_matches(routes[i].pattern, path, &id, &id_len)) {
            exchange->route = &routes[i];
        }
    }
    int rc = 0;
    if (exchange->route == NULL || !exchange->route->open) {
        rc = gateway__authenticate(exchange);
    }
    if (rc == 0 && exchange->route == NULL) {
        exchange->allow = allowed_methods(exchange, path);
        if (method == EVHTTP_REQ_OPTIONS && exchange->allow != NULL) {
            exchange->route = &options_route;
            return 0;
        }
        rc = refuse_unrouted(exchange, path);
    }
    if (rc == 0 && id != NULL) {
        rc = decode_id(exchange, id, id_len);
    }
    return rc != 0 ? rc : parse_query(exchange, evhttp_uri_get_query(uri));
}
