/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Who asks, and from where (design section 9).
 *
 * A web page can make a browser send a form to loopback, and can have its own name resolve to
 * loopback. So the Host must be one of ours, and an Origin, which browsers add to what a page
 * sends, must be that same host.
 */
#include "gateway/internal.h"

#include "base/mem.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

static char *host_of_listen(const char *listen)
{
    const char *colon = strrchr(listen, ':');
    size_t len = colon != NULL ? (size_t)(colon - listen) : strlen(listen);
    char *host = chp_strdup(listen);
    host[len] = '\0';
    return host;
}

void gateway__policy_init(struct gateway_policy *policy, const struct chp_http_config *config)
{
    static const char *const loopback[] = {"localhost", "127.0.0.1", "[::1]"};
    size_t loopback_count = sizeof loopback / sizeof loopback[0];
    policy->token_count = config->token_count;
    policy->tokens = chp_calloc(config->token_count, sizeof *policy->tokens);
    for (size_t i = 0; i < config->token_count; i++) {
        const char *token = config->tokens[i].token;
        policy->tokens[i].principal = chp_strdup(config->tokens[i].name);
        policy->tokens[i].hash = chp_sha256_of(token, strlen(token));
    }
    policy->hosts = chp_calloc(config->host_count + loopback_count + 1, sizeof *policy->hosts);
    for (size_t i = 0; i < loopback_count; i++) {
        policy->hosts[policy->host_count++] = chp_strdup(loopback[i]);
    }
    for (size_t i = 0; i < config->host_count; i++) {
        policy->hosts[policy->host_count++] = chp_strdup(config->hosts[i]);
    }
    if (config->listen != NULL) {
        policy->hosts[policy->host_count++] = host_of_listen(config->listen);
    }
    policy->uid_count = config->socket_uid_count;
    policy->uids = chp_calloc(config->socket_uid_count, sizeof *policy->uids);
    for (size_t i = 0; i < config->socket_uid_count; i++) {
        policy->uids[i] = config->socket_uids[i];
    }
}

void gateway__policy_deinit(struct gateway_policy *policy)
{
    for (size_t i = 0; i < policy->token_count; i++) {
        free(policy->tokens[i].principal);
    }
    for (size_t i = 0; i < policy->host_count; i++) {
        free(policy->hosts[i]);
    }
    free(policy->tokens);
    free(policy->hosts);
    free(policy->uids);
    *policy = (struct gateway_policy){0};
}

bool gateway__peer_allowed(const struct gateway_policy *policy, unsigned uid)
{
    bool allowed = uid == 0 || uid == geteuid();
    for (size_t i = 0; i < policy->uid_count; i++) {
        allowed = allowed || policy->uids[i] == uid;
    }
    return allowed;
}

/* --- from where -------------------------------------------------------------------------- */

static const char *header(const struct gateway_exchange *exchange, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(exchange->request), name);
}

static bool host_allowed(const struct gateway_policy *policy, const char *host)
{
    for (size_t i = 0; i < policy->host_count; i++) {
        if (strcasecmp(policy->hosts[i], host) == 0) {
            return true;
        }
    }
    return false;
}

static bool same_origin(const char *origin, const char *host)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t len = strlen(schemes[i]);
        if (strncasecmp(origin, schemes[i], len) == 0) {
            return strcasecmp(origin + len, host) == 0;
        }
    }
    return false;
}

int gateway__check_origin(struct gateway_exchange *exchange)
{
    const char *host = evhttp_request_get_host(exchange->request); /* without the port */
    const char *host_header = header(exchange, "Host");
    const char *origin = header(exchange, "Origin");
    const char *fetch_site = header(exchange, "Sec-Fetch-Site");
    bool local = exchange->connection->local; /* no page reaches a unix socket */
    if (host_header == NULL && exchange->request->minor >= 1) {
        gateway__refuse(exchange, 0, CHP_EMALFORMED, "header Host is missing");
    } else if (host != NULL && !local && !host_allowed(&exchange->door->policy, host)) {
        gateway__refuse(
            exchange, 421, CHP_EFORBIDDEN,
            "Host \"%.200s\" is not one of this agent's names: option hosts of [http] lists "
            "further ones",
            host);
    } else if (origin != NULL && (host_header == NULL || !same_origin(origin, host_header))) {
        gateway__refuse(
            exchange, 0, CHP_EFORBIDDEN,
            "Origin \"%.200s\" is foreign: pages of other sites may not call this agent", origin);
    } else if (fetch_site != NULL && strcasecmp(fetch_site, "same-origin") != 0 &&
               strcasecmp(fetch_site, "none") != 0) {
        gateway__refuse(
            exchange, 0, CHP_EFORBIDDEN,
            "a page of another site asks: pages of other sites may not call this agent");
    }
    return exchange->refusal.code;
}

/* --- who --------------------------------------------------------------------------------- */

/* Looks at every token and every byte, so that the time taken tells nothing. */
static const char *principal_of(const struct gateway_policy *policy, const char *token)
{
    struct chp_sha256 hash = chp_sha256_of(token, strlen(token));
    const char *found = NULL;
    for (size_t i = 0; i < policy->token_count; i++) {
        unsigned difference = 0;
        for (size_t k = 0; k < CHP_SHA256_BYTES; k++) {
            difference |= (unsigned)(hash.bytes[k] ^ policy->tokens[i].hash.bytes[k]);
        }
        if (difference == 0) {
            found = policy->tokens[i].principal;
        }
    }
    return found;
}

/* Basic: the password is the token; without one, the user name is (http://TOKEN@host/). */
static const char *principal_of_basic(const struct gateway_policy *policy, const char *text)
{
    struct chp_buf plain = {0};
    const char *principal = NULL;
    if (strlen(text) <= 4096 && gateway__base64_decode(text, strlen(text), &plain) == 0 &&
        plain.len == strlen(chp_buf_text(&plain))) {
        char *user = (char *)plain.data;
        char *colon = user != NULL ? strchr(user, ':') : NULL;
        if (colon != NULL) {
            *colon = '\0';
            principal = principal_of(policy, colon[1] != '\0' ? colon + 1 : user);
        }
    }
    chp_buf_deinit(&plain);
    return principal;
}

static const char *after_scheme(const char *value, const char *scheme)
{
    size_t len = strlen(scheme);
    return strncasecmp(value, scheme, len) == 0 && value[len] == ' '
               ? value + len + strspn(value + len, " ")
               : NULL;
}

static int authenticate_local(struct gateway_exchange *exchange)
{
    struct gateway_connection *connection = exchange->connection;
    if (!connection->allowed) {
        gateway__refuse(
            exchange, 0, CHP_EFORBIDDEN,
            "user %u may not use this socket: option socket_uids of [http] lists who may",
            connection->uid);
        return CHP_EFORBIDDEN;
    }
    exchange->principal = chp_arena_printf(&exchange->arena, "uid:%u", connection->uid);
    return 0;
}

int gateway__authenticate(struct gateway_exchange *exchange)
{
    const struct gateway_policy *policy = &exchange->door->policy;
    const char *value = header(exchange, "Authorization");
    if (exchange->connection->local && value == NULL) {
        return authenticate_local(exchange);
    }
    const char *bearer = value != NULL ? after_scheme(value, "Bearer") : NULL;
    const char *basic = value != NULL ? after_scheme(value, "Basic") : NULL;
    const char *principal = bearer != NULL  ? principal_of(policy, bearer)
                            : basic != NULL ? principal_of_basic(policy, basic)
                                            : NULL;
    if (principal == NULL) {
        gateway__refuse(exchange, 0, CHP_EUNAUTHORIZED, "%s",
                        value == NULL ? "a token is needed: Authorization: Bearer TOKEN, or as the "
                                        "password of basic authentication"
                                      : "this token is not known here");
        return CHP_EUNAUTHORIZED;
    }
    exchange->principal = chp_arena_strdup(&exchange->arena, principal);
    return 0;
}
