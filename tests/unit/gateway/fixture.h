/* SPDX-License-Identifier: AGPL-3.0-only */
/* A door on a port of its own, with the double behind it. */
#ifndef CHP_TEST_GATEWAY_FIXTURE_H
#define CHP_TEST_GATEWAY_FIXTURE_H

#include "double.h"
#include "gateway/internal.h"

#define TOKEN "a-token-for-tests-only"
/* Of every request that is to be let in. */
#define HEAD "Host: localhost\r\nAuthorization: Bearer " TOKEN "\r\n"

struct fixture {
    struct event_base *base;
    struct chp_agent agent;
    struct chp_http_door *door;
    struct client *client;
    char socket_path[64];
};

struct fixture *fixture_new(uint64_t idle_timeout_ms, size_t connections_max);
void fixture_free(struct fixture *fixture);
int fixture_setup(void **state);
int fixture_teardown(void **state);
/* Another client. */
struct client *fixture_client(struct fixture *fixture);
/* Sends one request on the fixture's client and fails unless the answer has this status and text.
 */
void expect(struct fixture *fixture, const char *request, int status, const char *text);
void expect_json(struct fixture *fixture, const char *path, const char *body, int status,
                 const char *text);

#endif
