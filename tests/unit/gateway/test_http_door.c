/* SPDX-License-Identifier: AGPL-3.0-only */
/* Who is let in, which routes there are, what each answers. */
#include "fixture.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define GET(path) "GET " path " HTTP/1.1\r\n" HEAD "\r\n"
#define OPERATION "{\"id\": \"x\", \"sites\": []}"

static void every_token_form_is_taken_and_no_other(void **state)
{
    struct fixture *f = *state;
    expect(f, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 401, "a token is needed");
    assert_non_null(strstr(client_text(f->client), "WWW-Authenticate: Basic"));
    expect(f,
           "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
           "a-token-for-tests-onlY\r\n\r\n",
           401, "not known");
    expect(f, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \r\n\r\n", 401,
           "not known");
    expect(f, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic !!!\r\n\r\n", 401,
           "not known");
    expect(f,
           "GET /metrics HTTP/1.1\r\nHost: localhost\r\nauthorization: bearer  " TOKEN "\r\n\r\n",
           200, "cheops_http_requests_total");
    /* anyone:TOKEN, and TOKEN: as curl makes of http://TOKEN@host/ */
    expect(f,
           "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic "
           "YW55b25lOmEtdG9rZW4tZm9yLXRlc3RzLW9ubHk=\r\n\r\n",
           200, "site=\"Nantes\"");
    expect(f,
           "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic "
           "YS10b2tlbi1mb3ItdGVzdHMtb25seTo=\r\n\r\n",
           200, "site=\"Nantes\"");
    /* Whether a path exists is not told to strangers. */
    expect(f, "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 401, "a token");
}

static void health_needs_no_token(void **state)
{
    struct fixture *f = *state;
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "{\"ok\":true}");
    expect(f, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "{\"ready\":true}");
    f->agent.down = true;
    expect(f, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n", 503, "the database is away");
    assert_non_null(strstr(client_text(f->client), "Retry-After: "));
}

static void foreign_hosts_and_origins_are_refused(void **state)
{
    struct fixture *f = *state;
    expect(f, "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, "evil.example");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: evil.example:8080\r\n\r\n", 421, "hosts of [http]");
    expect(f, "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 421,
           "evil.example");
    expect(f, "GET /healthz HTTP/1.1\r\n\r\n", 400, "Host is missing");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400,
           "once");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n", 200, "ok");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: [::1]:9\r\n\r\n", 200, "ok");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
           403, "foreign");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n", 403, "foreign");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost:80\r\nOrigin: http://localhost:81\r\n\r\n",
           403, "foreign");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost:80\r\nOrigin: http://LOCALHOST:80\r\n\r\n",
           200, "ok");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403,
           "another site");
    /* A token does not help a page. */
    expect(f, "GET /metrics HTTP/1.1\r\n" HEAD "Origin: http://evil.example\r\n\r\n", 403,
           "foreign");
}

static void a_reload_replaces_tokens_and_hosts(void **state)
{
    struct fixture *f = *state;
    struct chp_http_token token = {"bob", "another-token-for-tests"};
    const char *hosts[] = {"agent.example"};
    struct chp_http_config config = {
        .tokens = &token, .token_count = 1, .hosts = hosts, .host_count = 1};
    chp_http_door_reload(f->door, &config);
    expect(f, GET("/metrics"), 401, "not known");
    expect(f,
           "GET /metrics HTTP/1.1\r\nHost: agent.example\r\nAuthorization: Bearer "
           "another-token-for-tests\r\n\r\n",
           200, "cheops_");
}

static void the_unix_socket_knows_its_peer(void **state)
{
    struct fixture *f = *state;
    struct client *client = client_new_unix(f->base, f->socket_path);
    f->agent.answers[CHP_QUERY_STATUS] = "{\"schema_version\": 2}";
    client_say(client, "GET /v1/status HTTP/1.1\r\nHost: whatever\r\n\r\n");
    assert_true(client_sees(client, "\"schema_version\":2}", 1000));
    client_say(client, "POST /v1/operations HTTP/1.1\r\nHost: x\r\nContent-Type: "
                       "application/json\r\nContent-Length: 51\r\n\r\n"
                       "{\"resource\":\"r\",\"type\":\"set\",\"command\":[\"true\"] }  ");
    assert_true(client_sees(client, "202 ", 1000));
    char uid[32];
    (void)snprintf(uid, sizeof uid, "uid:%u", (unsigned)geteuid());
    assert_string_equal(f->agent.last.principal, uid);
    client_free(client);
    assert_true(gateway__peer_allowed(&f->door->policy, 0));
    assert_false(gateway__peer_allowed(&f->door->policy, 54321));
}

static void unknown_paths_methods_and_parameters(void **state)
{
    struct fixture *f = *state;
    expect(f, GET("/nowhere"), 404, "there is no /nowhere here");
    expect(f, GET("/v1/operations/"), 404, "there is no");
    expect(f, GET("/v1/operations/a/b"), 404, "there is no");
    expect(f, "DELETE /v1/operations HTTP/1.1\r\n" HEAD "\r\n", 405,
           "takes POST, GET, HEAD, OPTIONS");
    assert_non_null(strstr(client_text(f->client), "Allow: POST, GET, HEAD, OPTIONS\r\n"));
    expect(f, "OPTIONS /v1/dead/x HTTP/1.1\r\n" HEAD "\r\n", 204,
           "Allow: GET, HEAD, DELETE, OPTIONS\r\n");
    expect(f, GET("/v1/operations?limt=5"), 400, "limt");
    expect(f, GET("/v1/operations?limit=0"), 400, "limit must be a number from 1 to 1000");
    expect(f, GET("/v1/operations?limit=-1"), 400, "limit must be");
    expect(f, GET("/v1/operations?limit=99999999999999999999999"), 400, "limit must be");
    expect(f, GET("/v1/operations?state=finished"), 400, "finished");
    expect(f, GET("/v1/operations?site=a%2fb"), 400, "site");
    expect(f, GET("/v1/events?follow=yes"), 400, "true or false");
    expect(f, GET("/v1/operations/123"), 400, "not an operation's id");
    expect(f, GET("/v1/resources/%00"), 400, "UTF-8");
    expect(f, GET("/v1/resources/%ff"), 400, "UTF-8");
}

static void head_answers_like_get_without_a_body(void **state)
{
    struct fixture *f = *state;
    expect(f, "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "Content-Length: 11\r\n");
    loop_run(f->base, 20);
    assert_null(strstr(client_text(f->client), "{"));
    f->agent.answers[CHP_QUERY_EVENTS] = "{\"events\": [], \"last\": 0}";
    expect(f, "HEAD /v1/events?follow=true HTTP/1.1\r\n" HEAD "\r\n", 200, "text/event-stream");
    /* The connection still serves. */
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "{\"ok\":true}");
}

static void who_would_miss_forgotten_events_is_told(void **state)
{
    struct fixture *f = *state;
    f->agent.answers[CHP_QUERY_EVENTS] =
        "{\"events\": [{\"number\": 8}], \"last\": 8, \"oldest\": 8}";
    expect(f, GET("/v1/events?after=6"), 410, "events up to 7 are forgotten");
    expect(f, GET("/v1/events?after=0&follow=true"), 410, "go on after 7");
    expect(f, GET("/v1/events?after=7"), 200, "\"last\": 8");
    expect(f, GET("/v1/events"), 200, "\"last\": 8"); /* from the oldest on */
    f->agent.answers[CHP_QUERY_EVENTS] = "{\"events\": [], \"last\": 0, \"oldest\": 0}";
    expect(f, GET("/v1/events?after=0"), 200, "\"last\": 0");
}

static void queries_pass_the_stores_answer_on(void **state)
{
    struct fixture *f = *state;
    f->agent.answers[CHP_QUERY_OPERATION] = OPERATION;
    f->agent.answers[CHP_QUERY_OPERATIONS] = "{\"operations\": []}";
    f->agent.answers[CHP_QUERY_RESOURCES] = "{\"resources\": []}";
    f->agent.answers[CHP_QUERY_RESOURCE] = "{\"id\": \"a b\"}";
    f->agent.answers[CHP_QUERY_EVENTS] = "{\"events\": [], \"last\": 9}";
    expect(f, GET("/v1/operations/0192f000-0000-7000-8000-000000000001"), 200, OPERATION);
    expect(f, GET("/v1/operations?resource=web&state=done&limit=5&site=Rennes"), 200,
           "{\"operations\": []}");
    expect(f, GET("/v1/resources?after=a&limit=5"), 200, "{\"resources\": []}");
    expect(f, GET("/v1/resources/web"), 200, "{\"id\": \"a b\"}");
    expect(f, GET("/v1/events?after=3"), 200, "\"last\": 9");
    f->agent.answers[CHP_QUERY_RESOURCE] = NULL;
    expect(f, GET("/v1/resources/web"), 404, "not found");
    f->agent.query_code = CHP_EUNAVAILABLE;
    expect(f, GET("/v1/resources/web"), 503, "the database does not answer");
    assert_non_null(strstr(client_text(f->client), "Retry-After: "));
    f->agent.query_code = CHP_EBUSY;
    expect(f, GET("/v1/resources/web"), 429, "\"code\":\"busy, try again later\"");
    assert_non_null(strstr(client_text(f->client), "Retry-After: "));
}

static void histories_are_the_agents(void **state)
{
    struct fixture *f = *state;
    expect(f, GET("/v1/resources/web/history"), 200, "{\"resource\":\"web\",\"limit\":200}");
    expect(f, GET("/v1/resources/web/history?limit=5000"), 200, "\"limit\":5000}");
    expect(f, GET("/v1/resources/web/history?limit=5001"), 400, "1 to 5000");
    expect(f, GET("/v1/resources/%20/history"), 400, "resource id");
    f->agent.reply_code = CHP_ENOTFOUND;
    expect(f, GET("/v1/resources/web/history"), 404, "the double says no");
}

static void sites_join_what_store_and_agent_know(void **state)
{
    struct fixture *f = *state;
    f->agent.answers[CHP_QUERY_SITES] =
        "[{\"site\": \"Rennes\", \"waiting\": 4, \"oldest_at\": null, \"marks\": {}}]";
    expect(f, GET("/v1/sites"), 200, "\"messages\":1}],\"waiting\":4,");
    f->agent.query_code = CHP_EUNAVAILABLE;
    expect(f, GET("/v1/sites"), 200, "\"state\":\"down\"");
    assert_non_null(strstr(client_text(f->client), "\"waiting\":null"));
}

static void doctor_scope_and_openapi(void **state)
{
    struct fixture *f = *state;
    expect(f, GET("/v1/doctor"), 200, "{\"ok\":true,\"checks\":[");
    f->agent.down = true;
    expect(f, GET("/v1/doctor"), 200, "{\"ok\":false,");
    /* The client goes while the broker is asked. */
    f->agent.hold = true;
    client_say(f->client, GET("/v1/doctor"));
    loop_run(f->base, 20);
    assert_int_equal(f->agent.dead_calls, 3);
    client_free(f->client);
    loop_run(f->base, 20);
    f->agent.on_dead(f->agent.dead_user, 0, NULL, 0, NULL);
    f->client = fixture_client(f);
    f->agent.hold = false;
    expect_json(f, "/v1/scope/explain", "{\"scope\":\"Nantes\"}", 200, "Nantes: named");
    expect_json(f, "/v1/scope/explain", "{\"scope\":\"Nante\"}", 400, "at character 1");
    expect_json(f, "/v1/scope/explain", "{\"scop\":\"Nantes\"}", 400, "did you mean \\\"scope\\\"");
    expect_json(f, "/v1/scope/explain", "{}", 400, "\\\"scope\\\" is missing");
    expect(f, GET("/openapi.json"), 200, "\"openapi\"");
}

#define RESOLVE "/v1/operations/0192F000-0000-7000-8000-000000000001/resolve"

static void executions_in_doubt_are_resolved(void **state)
{
    struct fixture *f = *state;
    expect_json(f, RESOLVE, "{\"site\":\"Rennes\",\"resolution\":\"rerun\"}", 200,
                "{\"operation\":\"0192f000-0000-7000-8000-000000000001\",\"site\":\"Rennes\","
                "\"resolution\":\"rerun\"}");
    assert_int_equal(f->agent.resolve.resolution, CHP_RESOLVE_RERUN);
    assert_int_equal(f->agent.resolve.operation.bytes[15], 1);
    assert_int_equal(f->agent.resolve_timeout_ms, 30000);
    assert_non_null(f->agent.resolve.principal);
    expect_json(f, RESOLVE "?timeout_ms=1500", "{\"site\":\"a b\",\"resolution\":\"done\"}", 200,
                "\"site\":\"a b\"");
    assert_int_equal(f->agent.resolve_timeout_ms, 1500);
    static const struct {
        int code;
        int status;
    } refusals[] = {{CHP_ENOTFOUND, 404}, {CHP_ECONFLICT, 409},    {CHP_EREFUSED, 422},
                    {CHP_EBUSY, 429},     {CHP_EUNAVAILABLE, 503}, {CHP_ETIMEOUT, 504}};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        f->agent.reply_code = refusals[i].code;
        expect_json(f, RESOLVE, "{\"site\":\"Rennes\",\"resolution\":\"failed\"}",
                    refusals[i].status, "\"error\":\"Rennes says no\"");
    }
    f->agent.reply_code = 0;
    assert_int_equal(f->agent.resolves, 8);
    expect_json(f, RESOLVE, "{\"resolution\":\"done\"}", 400, "\\\"site\\\" is missing");
    expect_json(f, RESOLVE, "{\"site\":\"\",\"resolution\":\"done\"}", 400, "site");
    expect_json(f, RESOLVE, "{\"site\":\"Rennes\",\"resolution\":\"lost\"}", 400, "must be");
    expect_json(f, RESOLVE, "{\"site\":\"Rennes\"}", 400, "must be");
    expect_json(f, RESOLVE, "{\"site\":\"Rennes\",\"resolution\":\"done\",\"x\":1}", 400,
                "\\\"x\\\"");
    expect_json(f, RESOLVE, "[]", 400, "object");
    expect_json(f, RESOLVE "?timeout_ms=0", "{\"site\":\"R\",\"resolution\":\"done\"}", 400,
                "timeout_ms");
    expect_json(f, "/v1/operations/7/resolve", "{\"site\":\"R\",\"resolution\":\"done\"}", 400,
                "not an operation's id");
    assert_int_equal(f->agent.resolves, 8);
}

static void dead_letters(void **state)
{
    struct fixture *f = *state;
    expect(f, GET("/v1/dead"), 200, "\"reason\":\"malformed\"");
    assert_null(strstr(client_text(f->client), "body_base64"));
    expect(f, GET("/v1/dead/00112233aabbccdd"), 200, "\"body_base64\":\"/wB6\"");
    expect(f, GET("/v1/dead/beef"), 404, "no dead letter beef");
    expect(f, "POST /v1/dead/00112233aabbccdd/requeue HTTP/1.1\r\n" HEAD "\r\n", 200, "\"dead\":[");
    expect(f, "DELETE /v1/dead/00112233aabbccdd HTTP/1.1\r\n" HEAD "\r\n", 200, "\"dead\":[");
    /* The broker answers when the client has gone. */
    f->agent.hold = true;
    client_say(f->client, GET("/v1/dead"));
    loop_run(f->base, 20);
    assert_int_equal(f->agent.dead_calls, 6);
    client_free(f->client);
    loop_run(f->base, 20);
    f->agent.on_dead(f->agent.dead_user, 0, NULL, 0, NULL);
    f->client = fixture_client(f);
}

static void a_stopping_door_answers_what_it_has_read(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)chp_http_door_port(f->door))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    f->agent.hold = true;
    client_say(f->client, GET("/v1/dead"));
    loop_run(f->base, 20);
    assert_int_equal(f->agent.dead_calls, 1);
    assert_true(chp_http_door_busy(f->door));
    chp_http_door_stop(f->door);
    int late = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(late, (struct sockaddr *)&address, sizeof address), -1);
    assert_int_equal(errno, ECONNREFUSED);
    (void)close(late);
    assert_true(chp_http_door_busy(f->door));
    f->agent.on_dead(f->agent.dead_user, 0, NULL, 0, NULL);
    assert_true(client_sees(f->client, "\"dead\":[", 1000));
    assert_non_null(strstr(client_text(f->client), "Connection: close"));
    loop_run(f->base, 50);
    assert_false(chp_http_door_busy(f->door));
}

static void what_is_not_http_gets_a_sentence(void **state)
{
    struct fixture *f = *state;
    struct chp_buf long_header = {0};
    expect(f, "nonsense\r\n\r\n", 400, "the request line or a header cannot be read");
    expect(f, "GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", 400, "cannot be read");
    chp_buf_add_text(&long_header, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ");
    for (size_t i = 0; i < GATEWAY_HEADERS_MAX_BYTES; i++) {
        chp_buf_add_byte(&long_header, 'x');
    }
    chp_buf_add_text(&long_header, "\r\n\r\n");
    expect(f, chp_buf_text(&long_header), 400, "32768 bytes");
    chp_buf_deinit(&long_header);
    expect(f,
           "POST /v1/blobs HTTP/1.1\r\n" HEAD
           "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
           400, "\"code\":\"malformed\"");
    expect(f, "POST /v1/blobs HTTP/1.1\r\n" HEAD "Content-Length: -3\r\n\r\n", 400,
           "\"code\":\"malformed\"");
    expect(f, "POST /v1/blobs HTTP/1.1\r\n" HEAD "Transfer-Encoding: gzip\r\n\r\n", 501, "chunked");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nExpect: tea\r\n\r\n", 417,
           "100-continue");
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nGET /", 400,
           "no body");
    expect(f, "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nGET /", 400,
           "HTTP");
    /* A method that evhttp does not know. */
    expect(f, "BREW /healthz HTTP/1.1\r\n" HEAD "\r\n", 405, "takes GET");
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    client_say(f->client, GET("/healthz") GET("/nowhere") GET("/readyz"));
    assert_true(client_sees(f->client, "\"ready\"", 1000));
    const char *text = client_text(f->client);
    const char *first = strstr(text, "\"ok\"");
    const char *second = strstr(text, "404 ");
    assert_true(first != NULL && second != NULL && first < second);
    assert_true(second < strstr(text, "\"ready\""));
}

static void old_clients_work(void **state)
{
    struct fixture *f = *state;
    client_say(f->client, "GET /healthz HTTP/1.0\r\n\r\n");
    assert_true(client_sees(f->client, "\"ok\":true", 1000));
    assert_true(client_closes(f->client, 1000));
}

static void connections_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct client *many[8];
    for (size_t i = 0; i < 8; i++) {
        many[i] = fixture_client(f);
        client_say(many[i], "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_true(client_sees(many[i], i < 7 ? "200 " : "503 ", 1000));
    }
    assert_non_null(strstr(client_text(many[7]), "the bound is 8"));
    for (size_t i = 0; i < 8; i++) {
        client_free(many[i]);
    }
    loop_run(f->base, 20);
    assert_int_equal(f->agent.metrics.http_connections, 1);
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "ok");
}

static void what_does_not_move_is_closed(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(200, 8);
    struct client *idle = fixture_client(f);
    struct client *half = fixture_client(f);
    struct client *body = fixture_client(f);
    client_say(half, "GET /healthz HTT");
    client_say(body, "POST /v1/blobs HTTP/1.1\r\n" HEAD "Content-Length: 10\r\n\r\n123");
    loop_run(f->base, 50);
    assert_int_equal(f->agent.blob_open, 1);
    /* A head that trickles in does not count as moving. */
    for (int i = 0; i < 8; i++) {
        client_say(half, "x");
        loop_run(f->base, 50);
    }
    assert_true(client_closes(idle, 1000));
    assert_true(client_closes(half, 1000));
    assert_true(client_closes(body, 1000));
    assert_int_equal(f->agent.blob_open, 0);
    client_free(idle);
    client_free(half);
    client_free(body);
    fixture_free(f);
}

static void an_address_that_is_none_or_taken_is_told(void **state)
{
    struct fixture *f = *state;
    struct chp_agent_port port = {&f->agent, double_vtable()};
    struct chp_http_config config = {
        .base = f->base, .listen = "localhost", .idle_timeout_ms = 1000};
    struct chp_error error = {0};
    assert_null(chp_http_door_new(&config, &port, &error));
    assert_int_equal(error.code, CHP_EINVAL);
    config.listen = NULL;
    config.socket_path = f->socket_path;
    assert_null(chp_http_door_new(&config, &port, &error));
    assert_int_equal(error.code, CHP_EBUSY);
    config.socket_path = "/dev/null";
    assert_null(chp_http_door_new(&config, &port, &error));
    assert_int_equal(error.code, CHP_EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_token_form_is_taken_and_no_other),
        TEST(health_needs_no_token),
        TEST(foreign_hosts_and_origins_are_refused),
        TEST(a_reload_replaces_tokens_and_hosts),
        TEST(the_unix_socket_knows_its_peer),
        TEST(unknown_paths_methods_and_parameters),
        TEST(head_answers_like_get_without_a_body),
        TEST(who_would_miss_forgotten_events_is_told),
        TEST(queries_pass_the_stores_answer_on),
        TEST(histories_are_the_agents),
        TEST(sites_join_what_store_and_agent_know),
        TEST(doctor_scope_and_openapi),
        TEST(executions_in_doubt_are_resolved),
        TEST(dead_letters),
        TEST(a_stopping_door_answers_what_it_has_read),
        TEST(what_is_not_http_gets_a_sentence),
        TEST(pipelined_requests_are_answered_in_order),
        TEST(old_clients_work),
        TEST(connections_are_bounded),
        cmocka_unit_test(what_does_not_move_is_closed),
        TEST(an_address_that_is_none_or_taken_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
