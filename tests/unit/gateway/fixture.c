/* SPDX-License-Identifier: AGPL-3.0-only */
#include "fixture.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture *fixture_new(uint64_t idle_timeout_ms, size_t connections_max)
{
    struct fixture *fixture = chp_alloc(sizeof *fixture);
    struct chp_http_token token = {"alice", TOKEN};
    struct chp_agent_port port = {&fixture->agent, double_vtable()};
    struct chp_error error = {0};
    fixture->base = event_base_new();
    (void)snprintf(fixture->socket_path, sizeof fixture->socket_path, "gateway-%d.sock",
                   (int)getpid());
    struct chp_http_config config = {.base = fixture->base,
                                     .listen = "127.0.0.1:0",
                                     .socket_path = fixture->socket_path,
                                     .tokens = &token,
                                     .token_count = 1,
                                     .connections_max = connections_max,
                                     .body_max_bytes = 64 * 1024 * 1024,
                                     .json_max_bytes = 1024 * 1024,
                                     .idle_timeout_ms = idle_timeout_ms};
    fixture->door = chp_http_door_new(&config, &port, &error);
    if (fixture->door == NULL) {
        fail_msg("%s", error.text);
    }
    fixture->client = fixture_client(fixture);
    return fixture;
}

void fixture_free(struct fixture *fixture)
{
    client_free(fixture->client);
    chp_http_door_free(fixture->door);
    double_deinit(&fixture->agent);
    event_base_free(fixture->base);
    free(fixture);
}

int fixture_setup(void **state)
{
    *state = fixture_new(10000, 8);
    return 0;
}

int fixture_teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

struct client *fixture_client(struct fixture *fixture)
{
    return client_new(fixture->base, chp_http_door_port(fixture->door));
}

void expect(struct fixture *fixture, const char *request, int status, const char *text)
{
    char line[32];
    (void)snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    if (fixture->client->closed) {
        client_free(fixture->client);
        fixture->client = fixture_client(fixture);
    }
    client_clear(fixture->client);
    client_send(fixture->client, request, strlen(request));
    if (!client_sees(fixture->client, line, 2000) || !client_sees(fixture->client, text, 500)) {
        fail_msg("wanted %d and \"%s\", got: %s", status, text, client_text(fixture->client));
    }
    if (strstr(client_text(fixture->client), "Connection: close") != NULL) {
        assert_true(client_closes(fixture->client, 4000));
    }
}

void expect_json(struct fixture *fixture, const char *path, const char *body, int status,
                 const char *text)
{
    struct chp_buf request = {0};
    chp_buf_printf(&request,
                   "POST %s HTTP/1.1\r\n" HEAD
                   "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                   path, strlen(body), body);
    expect(fixture, chp_buf_text(&request), status, text);
    chp_buf_deinit(&request);
}
