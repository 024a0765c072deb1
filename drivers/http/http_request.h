/* SPDX-License-Identifier: AGPL-3.0-only */
/* Services as configured, and what may be asked of them. No I/O. */
#ifndef CHP_HTTP_REQUEST_H
#define CHP_HTTP_REQUEST_H

#include "http_driver.h"

enum { HTTP_RANGES_MAX = 16 };

/* Statuses that mean done. */
struct http_success {
    struct {
        int first;
        int last;
    } ranges[HTTP_RANGES_MAX];
    size_t count;
};

struct http_service {
    const char *name;
    const char *url; /* without a '/' at the end */
    struct http_success success;
    const char *ca_file;
};

/* The part of the configuration that can be replaced. */
struct http_settings {
    struct chp_arena arena;
    struct http_service *services;
    size_t service_count;
    unsigned concurrency_max;
    uint64_t connect_timeout_ms;
};

struct http_settings *http__settings_new(const struct chp_http_driver_config *config,
                                         struct chp_error *error);
void http__settings_free(struct http_settings *settings);

/* text: statuses and ranges of them with commas between, "200-299,409". */
int http__success_parse(const char *text, struct http_success *success,
                        struct chp_error *error) CHP_MUST_CHECK;
bool http__success_has(const struct http_success *success, long status);

/* Decodes the payload and checks everything that can be: method, service, path, headers, that
 * body_file is one of the names. Borrows from payload and arena. */
int http__request_check(const struct http_settings *settings, struct chp_bytes payload,
                        const char *const *file_names, size_t file_count, struct chp_arena *arena,
                        struct chp_rest *rest, const struct http_service **service,
                        struct chp_error *error) CHP_MUST_CHECK;

/* HTTP defines a second request of the method as doing no more than the first. */
bool http__method_idempotent(const char *method);
/* Whether "Name: value" has that name. */
bool http__header_named(const char *header, const char *name);

#endif
