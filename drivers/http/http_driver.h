/* SPDX-License-Identifier: AGPL-3.0-only */
/* The http driver (design section 7): REST requests to configured services, through libcurl on the
 * loop. */
#ifndef CHP_HTTP_DRIVER_H
#define CHP_HTTP_DRIVER_H

#include "port/driver.h"

#include <event2/event.h>

struct chp_http_service {
    const char *name;
    const char *url;     /* http[s]://host:port/prefix */
    const char *success; /* "200-299,409": statuses that mean done; NULL: 200-299 */
    const char *ca_file; /* https, or NULL: the system's */
};

/* Copied by whoever takes it. */
struct chp_http_driver_config {
    struct event_base *base;
    const char *site;
    const struct chp_http_service *services;
    size_t service_count;
    unsigned concurrency_max;    /* at least 1 */
    uint64_t connect_timeout_ms; /* 0: the deadline alone counts */
};

/* NULL with *error when a service's url or success cannot be used. Freeing the driver ends what it
 * does. */
struct chp_driver *chp_http_driver_new(const struct chp_http_driver_config *config,
                                       struct chp_error *error);
/* Replaces the services and concurrency_max (SIGHUP) for requests that start from now on. When one
 * of them cannot be used nothing changes, and a log line says why. */
void chp_http_driver_reload(struct chp_driver *driver, const struct chp_http_driver_config *config);

#endif
