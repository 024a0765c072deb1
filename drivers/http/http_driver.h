/* SPDX-License-Identifier: AGPL-3.0-only */
/* The http driver (design section 7): REST requests to configured services, through libcurl on the loop. */
#ifndef CHP_HTTP_DRIVER_H
#define CHP_HTTP_DRIVER_H

#include "port/driver.h"

#include <event2/event.h>

struct chp_http_service {
    const char *name;
    const char *url;     /* http[s]://host:port/prefix */
    const char *success; /* "200-299,409": statuses that mean done */
    const char *ca_file; /* https, or NULL */
};

struct chp_http_driver_config {
    struct event_base *base;
    const char *site;
    const struct chp_http_service *services;
    size_t service_count;
    unsigned concurrency_max;
    uint64_t connect_timeout_ms;
};

struct chp_driver *chp_http_driver_new(const struct chp_http_driver_config *config, struct chp_error *error);
/* Replaces the services and concurrency_max (SIGHUP). */
void chp_http_driver_reload(struct chp_driver *driver, const struct chp_http_driver_config *config);

#endif
