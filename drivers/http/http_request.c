/* SPDX-License-Identifier: AGPL-3.0-only */
#include "http_request.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { URL_MAX_BYTES = 2048, STATUS_MIN = 100, STATUS_MAX = 599, SERVICES_LISTED_MAX = 20 };

static const struct {
    const char *name;
    bool idempotent;
} methods[] = {
    {"GET", true},   {"HEAD", true},   {"PUT", true},     {"DELETE", true},
    {"POST", false}, {"PATCH", false}, {"OPTIONS", true},
};

static int parse_status(const char **at)
{
    int status = 0;
    int digits = 0;
    while (**at >= '0' && **at <= '9' && digits < 3) {
        status = status * 10 + (**at - '0');
        digits++;
        (*at)++;
    }
    return status >= STATUS_MIN && status <= STATUS_MAX ? status : -1;
}

int http__success_parse(const char *text, struct http_success *success, struct chp_error *error)
{
    const char *at = text;
    *success = (struct http_success){0};
    for (;;) {
        int first = parse_status(&at);
        int last = first;
        if (*at == '-') {
            at++;
            last = parse_status(&at);
        }
        if (first < 0 || last < first || (*at != 0 && *at != ',')) {
            return chp_error_set(error, CHP_EINVAL,
                                 "'%.100s' are not HTTP statuses: write them like 200-299,409",
                                 text);
        }
        if (success->count == HTTP_RANGES_MAX) {
            return chp_error_set(error, CHP_EINVAL, "at most %d ranges of HTTP statuses",
                                 HTTP_RANGES_MAX);
        }
        success->ranges[success->count].first = first;
        success->ranges[success->count++].last = last;
        if (*at++ == 0) {
            return 0;
        }
    }
}

bool http__success_has(const struct http_success *success, long status)
{
    for (size_t i = 0; i < success->count; i++) {
        if (status >= success->ranges[i].first && status <= success->ranges[i].last) {
            return true;
        }
    }
    return false;
}

static int service_set(struct http_settings *settings, const struct chp_http_service *config,
                       struct http_service *service, struct chp_error *error)
{
    const char *url = config->url == NULL ? "" : config->url;
    size_t len = strlen(url);
    struct chp_error detail = {0};
    size_t scheme = strncasecmp(url, "http://", 7) == 0    ? 7
                    : strncasecmp(url, "https://", 8) == 0 ? 8
                                                           : 0;
    if (scheme == 0 || url[scheme] == 0 || url[scheme] == '/' || len > URL_MAX_BYTES ||
        strpbrk(url, "?# \t\r\n") != NULL) {
        /* Without the url, which may hold a password. */
        return chp_error_set(error, CHP_EINVAL,
                             "service '%.100s': the url must look like http://host:port/prefix",
                             config->name);
    }
    if (http__success_parse(config->success == NULL ? "200-299" : config->success,
                            &service->success, &detail) != 0) {
        return chp_error_set(error, CHP_EINVAL, "service '%.100s', option success: %.300s",
                             config->name, detail.text);
    }
    while (url[len - 1] == '/') {
        len--;
    }
    service->name = chp_arena_strdup(&settings->arena, config->name);
    service->url = chp_arena_strndup(&settings->arena, url, len);
    service->ca_file = chp_arena_strdup(&settings->arena, config->ca_file);
    return 0;
}

struct http_settings *http__settings_new(const struct chp_http_driver_config *config,
                                         struct chp_error *error)
{
    struct http_settings *settings = chp_alloc(sizeof *settings);
    settings->services =
        chp_arena_calloc(&settings->arena, config->service_count, sizeof *settings->services);
    settings->concurrency_max = config->concurrency_max == 0 ? 1 : config->concurrency_max;
    settings->connect_timeout_ms = config->connect_timeout_ms;
    for (size_t i = 0; i < config->service_count; i++) {
        if (service_set(settings, &config->services[i], &settings->services[i], error) != 0) {
            http__settings_free(settings);
            return NULL;
        }
        settings->service_count++;
    }
    return settings;
}

void http__settings_free(struct http_settings *settings)
{
    if (settings != NULL) {
        chp_arena_deinit(&settings->arena);
        free(settings);
    }
}

static int find_service(const struct http_settings *settings, const char *name,
                        const struct http_service **service, struct chp_error *error)
{
    struct chp_buf known = {0};
    for (size_t i = 0; i < settings->service_count; i++) {
        if (strcmp(settings->services[i].name, name) == 0) {
            *service = &settings->services[i];
            chp_buf_deinit(&known);
            return 0;
        }
        if (i < SERVICES_LISTED_MAX) {
            chp_buf_printf(&known, "%s%s", i > 0 ? ", " : "", settings->services[i].name);
        }
    }
    int code =
        chp_error_set(error, CHP_EREFUSED,
                      "service '%.100s' is not configured on this site (section [service.NAME]); "
                      "known: %.200s",
                      name, known.len == 0 ? "none" : chp_buf_text(&known));
    chp_buf_deinit(&known);
    return code;
}

bool http__method_idempotent(const char *method)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(methods[i].name, method) == 0) {
            return methods[i].idempotent;
        }
    }
    return false;
}

bool http__header_named(const char *header, const char *name)
{
    size_t len = strlen(name);
    return strncasecmp(header, name, len) == 0 && header[len] == ':';
}

/* The wire has refused what belongs to the connection; these are the driver's own. */
static int check_header(const char *header, struct chp_error *error)
{
    if (strncasecmp(header, "Cheops-", 7) != 0) {
        return 0;
    }
    return chp_error_set(error, CHP_EINVAL, "header '%.*s' is set by the agent, not by a request",
                         (int)strcspn(header, ":"), header);
}

static int check_body_file(const struct chp_rest *rest, const char *const *names, size_t count,
                           struct chp_error *error)
{
    if (rest->body_file == NULL) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], rest->body_file) == 0) {
            return 0;
        }
    }
    return chp_error_set(
        error, CHP_EINVAL,
        "the body is to be file '%.100s', which is not one of the operation's files",
        rest->body_file);
}

int http__request_check(const struct http_settings *settings, struct chp_bytes payload,
                        const char *const *file_names, size_t file_count, struct chp_arena *arena,
                        struct chp_rest *rest, const struct http_service **service,
                        struct chp_error *error)
{
    int code = chp_rest_decode(payload, arena, rest, error);
    for (size_t i = 0; i < rest->header_count && code == 0; i++) {
        code = check_header(rest->headers[i], error);
    }
    if (code == 0) {
        code = check_body_file(rest, file_names, file_count, error);
    }
    return code == 0 ? find_service(settings, rest->service, service, error) : code;
}
