/* SPDX-License-Identifier: AGPL-3.0-only */
/* The http driver against an evhttp server on the same loop. */
#include "http/http_driver.h"
#include "http/http_request.h"

#include "base/clock.h"
#include "base/mem.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 20000 };

struct result {
    unsigned calls;
    enum chp_state state;
    int32_t exit_code;
    char reason[CHP_REASON_MAX_BYTES + 1];
    char output[CHP_OUTPUT_MAX_BYTES + 1];
    size_t output_bytes;
    bool output_cut;
    uint64_t duration_ms;
    unsigned order;
};

struct fixture {
    struct event_base *base;
    struct evhttp *server;
    char url[64];
    char dead_url[64];
    struct chp_http_service services[3];
    struct chp_http_driver_config config;
    struct chp_driver *driver;
    struct chp_buf payload;
    struct result result;
    unsigned finished;
    /* What the server saw last. */
    unsigned requests;
    unsigned open_requests;
    unsigned open_requests_max;
    char method[16];
    char uri[256];
    struct chp_buf headers;
    size_t body_bytes;
    struct chp_sha256 body_hash;
};

static const char *method_name(enum evhttp_cmd_type type)
{
    return type == EVHTTP_REQ_GET      ? "GET"
           : type == EVHTTP_REQ_POST   ? "POST"
           : type == EVHTTP_REQ_HEAD   ? "HEAD"
           : type == EVHTTP_REQ_PUT    ? "PUT"
           : type == EVHTTP_REQ_DELETE ? "DELETE"
           : type == EVHTTP_REQ_PATCH  ? "PATCH"
                                       : "OPTIONS";
}

static void record(struct fixture *fixture, struct evhttp_request *request)
{
    struct evkeyvalq *headers = evhttp_request_get_input_headers(request);
    struct evbuffer *body = evhttp_request_get_input_buffer(request);
    fixture->requests++;
    (void)snprintf(fixture->method, sizeof fixture->method, "%s",
                   method_name(evhttp_request_get_command(request)));
    (void)snprintf(fixture->uri, sizeof fixture->uri, "%s", evhttp_request_get_uri(request));
    chp_buf_clear(&fixture->headers);
    for (struct evkeyval *header = headers->tqh_first; header != NULL;
         header = header->next.tqe_next) {
        chp_buf_printf(&fixture->headers, "%s: %s\n", header->key, header->value);
    }
    fixture->body_bytes = evbuffer_get_length(body);
    fixture->body_hash = chp_sha256_of(evbuffer_pullup(body, -1), fixture->body_bytes);
}

struct late {
    struct fixture *fixture;
    struct evhttp_request *request;
};

static void late_on_time(evutil_socket_t fd, short what, void *user)
{
    struct late *late = user;
    (void)fd;
    (void)what;
    late->fixture->open_requests--;
    evhttp_send_reply(late->request, 200, "OK", NULL);
    free(late);
}

static void answer_late(struct fixture *fixture, struct evhttp_request *request)
{
    struct late *late = chp_alloc(sizeof *late);
    struct timeval pause = {.tv_usec = 30000};
    *late = (struct late){.fixture = fixture, .request = request};
    fixture->open_requests++;
    if (fixture->open_requests > fixture->open_requests_max) {
        fixture->open_requests_max = fixture->open_requests;
    }
    (void)event_base_once(fixture->base, -1, EV_TIMEOUT, late_on_time, late, &pause);
}

/* GET /api/status/NNN answers with that status, /big with much, /hang never, /late a little later.
 */
static void server_on_request(struct evhttp_request *request, void *user)
{
    struct fixture *fixture = user;
    struct evbuffer *out = evbuffer_new();
    int status = 200;
    record(fixture, request);
    if (strstr(fixture->uri, "/late") != NULL) {
        answer_late(fixture, request);
    } else if (strstr(fixture->uri, "/hang") == NULL) {
        const char *wanted = strstr(fixture->uri, "/status/");
        if (wanted != NULL) {
            status = (int)strtol(wanted + 8, NULL, 10);
        }
        if (status == 302) {
            (void)evhttp_add_header(evhttp_request_get_output_headers(request), "Location",
                                    "/api/elsewhere");
        }
        if (strstr(fixture->uri, "/big") != NULL) {
            for (int i = 0; i < 300000; i++) {
                (void)evbuffer_add(out, "0123456789", 10);
            }
        } else {
            (void)evbuffer_add_printf(out, "seen %s", fixture->uri);
        }
        evhttp_send_reply(request, status, "As asked", out);
    }
    evbuffer_free(out);
}

static int set_up(void **state)
{
    struct fixture *fixture = chp_alloc(sizeof *fixture);
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    char service[16];
    fixture->base = event_base_new();
    fixture->server = evhttp_new(fixture->base);
    evhttp_set_allowed_methods(fixture->server, 0xffff);
    evhttp_set_gencb(fixture->server, server_on_request, fixture);
    struct evhttp_bound_socket *bound =
        evhttp_bind_socket_with_handle(fixture->server, "127.0.0.1", 0);
    assert_non_null(bound);
    assert_int_equal(
        getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&address, &len), 0);
    unsigned port = 0;
    memcpy(service, &address, 4);
    port = (unsigned)((uint8_t)service[2] << 8 | (uint8_t)service[3]);
    (void)snprintf(fixture->url, sizeof fixture->url, "http://127.0.0.1:%u/api/", port);
    /* A port that refuses: bound, not listening. */
    int closed = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_storage loopback = address;
    ((uint8_t *)&loopback)[2] = ((uint8_t *)&loopback)[3] = 0;
    assert_int_equal(bind(closed, (struct sockaddr *)&loopback, len), 0);
    assert_int_equal(getsockname(closed, (struct sockaddr *)&address, &len), 0);
    memcpy(service, &address, 4);
    (void)snprintf(fixture->dead_url, sizeof fixture->dead_url, "http://127.0.0.1:%d",
                   (uint8_t)service[2] << 8 | (uint8_t)service[3]);
    (void)close(closed);
    fixture->services[0] = (struct chp_http_service){.name = "inventory", .url = fixture->url};
    fixture->services[1] = (struct chp_http_service){
        .name = "lenient", .url = fixture->url, .success = "200-299,302,409"};
    fixture->services[2] = (struct chp_http_service){.name = "dead", .url = fixture->dead_url};
    fixture->config = (struct chp_http_driver_config){.base = fixture->base,
                                                      .site = "Nantes",
                                                      .services = fixture->services,
                                                      .service_count = 3,
                                                      .concurrency_max = 4,
                                                      .connect_timeout_ms = 2000};
    struct chp_error error = {0};
    fixture->driver = chp_http_driver_new(&fixture->config, &error);
    assert_string_equal(error.text, "");
    assert_non_null(fixture->driver);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    fixture->driver->vtable->free(fixture->driver);
    evhttp_free(fixture->server);
    event_base_free(fixture->base);
    chp_buf_deinit(&fixture->payload);
    chp_buf_deinit(&fixture->headers);
    free(fixture);
    return 0;
}

struct waiting {
    struct fixture *fixture;
    struct result *result;
};

static void on_done(void *user, const struct chp_completion *completion)
{
    struct waiting *waiting = user;
    struct result *result = waiting->result;
    result->calls++;
    result->state = completion->state;
    result->exit_code = completion->exit_code;
    (void)snprintf(result->reason, sizeof result->reason, "%s",
                   completion->reason == NULL ? "" : completion->reason);
    assert_int_equal(completion->state == CHP_STATE_DONE, completion->reason == NULL);
    assert_true(completion->output.len <= CHP_OUTPUT_MAX_BYTES);
    if (completion->output.len > 0) {
        memcpy(result->output, completion->output.data, completion->output.len);
    }
    result->output[completion->output.len] = 0;
    result->output_bytes = completion->output.len;
    result->output_cut = completion->output_cut;
    result->duration_ms = completion->duration_ms;
    result->order = ++waiting->fixture->finished;
}

static void wait_for(struct fixture *fixture, const struct result *result)
{
    uint64_t until_ms = chp_clock_mono_ms() + WAIT_MS;
    while (result->calls == 0) {
        struct timeval tick = {.tv_usec = 50000};
        assert_true(chp_clock_mono_ms() < until_ms);
        (void)event_base_loopexit(fixture->base, &tick);
        (void)event_base_loop(fixture->base, EVLOOP_ONCE);
    }
    assert_int_equal(result->calls, 1);
}

static struct chp_run order(struct fixture *fixture, const struct chp_rest *rest)
{
    struct chp_error error = {0};
    chp_buf_clear(&fixture->payload);
    assert_int_equal(chp_rest_encode(rest, &fixture->payload, &error), 0);
    return (struct chp_run){.operation = chp_uuid_new(),
                            .run = 1,
                            .site = "Nantes",
                            .resource = "item-7",
                            .type = "set",
                            .payload = chp_buf_bytes(&fixture->payload),
                            .deadline_ms = 10000};
}

static struct result *perform(struct fixture *fixture, const struct chp_run *run)
{
    struct waiting waiting = {.fixture = fixture, .result = &fixture->result};
    fixture->result = (struct result){0};
    fixture->driver->vtable->start(fixture->driver, run, on_done, &waiting);
    assert_int_equal(fixture->result.calls, 0); /* never from inside */
    wait_for(fixture, &fixture->result);
    return &fixture->result;
}

static struct result *request(struct fixture *fixture, const char *method, const char *service,
                              const char *path)
{
    const struct chp_rest rest = {.service = service, .method = method, .path = path};
    struct chp_run run = order(fixture, &rest);
    return perform(fixture, &run);
}

static void method_path_headers_body(void **state)
{
    struct fixture *fixture = *state;
    const char *headers[] = {"Content-Type: application/json", "X-Empty:", "X-Other: a, b"};
    char expected[128];
    char id[CHP_UUID_TEXT_BYTES];
    const struct chp_rest rest = {.service = "inventory",
                                  .method = "PUT",
                                  .path = "items/7?dry=no&x=%20",
                                  .headers = headers,
                                  .header_count = 3,
                                  .body = chp_bytes_of("{\"count\": 3}")};
    struct chp_run run = order(fixture, &rest);
    struct result *result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_DONE);
    assert_int_equal(result->exit_code, 200);
    assert_string_equal(result->output, "seen /api/items/7?dry=no&x=%20");
    assert_string_equal(fixture->method, "PUT");
    const char *seen = chp_buf_text(&fixture->headers);
    chp_uuid_format(&run.operation, id);
    (void)snprintf(expected, sizeof expected, "Cheops-Operation: %s\n", id);
    assert_non_null(strstr(seen, expected));
    (void)snprintf(expected, sizeof expected, "Idempotency-Key: %s\n", id);
    assert_non_null(strstr(seen, expected));
    assert_non_null(strstr(seen, "Cheops-Site: Nantes\n"));
    assert_non_null(strstr(seen, "Content-Type: application/json\n"));
    assert_non_null(strstr(seen, "X-Empty: \n"));
    assert_non_null(strstr(seen, "X-Other: a, b\n"));
    assert_non_null(strstr(seen, "Content-Length: 12\n"));
    assert_null(strstr(seen, "Expect"));
    struct chp_sha256 hash = chp_sha256_of("{\"count\": 3}", 12);
    assert_memory_equal(&hash, &fixture->body_hash, sizeof hash);

    /* A key of the client's own is kept. */
    const char *own[] = {"idempotency-key: mine"};
    const struct chp_rest keyed = {
        .service = "inventory", .method = "POST", .path = "", .headers = own, .header_count = 1};
    run = order(fixture, &keyed);
    (void)perform(fixture, &run);
    seen = chp_buf_text(&fixture->headers);
    assert_non_null(strstr(seen, "idempotency-key: mine\n"));
    assert_null(strstr(seen, "Idempotency-Key"));
    assert_non_null(strstr(seen, "Content-Length: 0\n"));
    assert_string_equal(fixture->uri, "/api/");
}

static void every_method(void **state)
{
    struct fixture *fixture = *state;
    static const char *const methods[] = {"GET",   "HEAD",   "PUT",    "POST",
                                          "PATCH", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        struct result *result = request(fixture, methods[i], "inventory", "x");
        assert_int_equal(result->state, CHP_STATE_DONE);
        assert_string_equal(fixture->method, methods[i]);
        assert_int_equal(result->output_bytes == 0, strcmp(methods[i], "HEAD") == 0);
    }
}

static void statuses(void **state)
{
    struct fixture *fixture = *state;
    struct result *result = request(fixture, "GET", "inventory", "status/404");
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_int_equal(result->exit_code, 404);
    assert_string_equal(result->reason, "service 'inventory' answered 404");
    assert_non_null(strstr(result->output, "seen"));
    result = request(fixture, "POST", "lenient", "status/409");
    assert_int_equal(result->state, CHP_STATE_DONE);
    assert_int_equal(result->exit_code, 409);
    /* A redirect is an answer, and not followed. */
    fixture->requests = 0;
    result = request(fixture, "GET", "inventory", "status/302");
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_int_equal(result->exit_code, 302);
    result = request(fixture, "GET", "lenient", "status/302");
    assert_int_equal(result->state, CHP_STATE_DONE);
    assert_int_equal(fixture->requests, 2);
}

static void big_response_is_cut(void **state)
{
    struct fixture *fixture = *state;
    struct result *result = request(fixture, "GET", "inventory", "big");
    assert_int_equal(result->state, CHP_STATE_DONE);
    assert_int_equal(result->output_bytes, CHP_OUTPUT_MAX_BYTES);
    assert_true(result->output_cut);
}

static void body_from_a_file(void **state)
{
    struct fixture *fixture = *state;
    enum { BODY_BYTES = 5 * 1024 * 1024 };
    char path[] = "/tmp/cheops-test-body-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    uint8_t *body = chp_alloc(BODY_BYTES);
    for (size_t i = 0; i < BODY_BYTES; i++) {
        body[i] = (uint8_t)(i * 7 + i / 251);
    }
    assert_int_equal(write(fd, body, BODY_BYTES), BODY_BYTES);
    (void)close(fd);
    const struct chp_rest rest = {
        .service = "inventory", .method = "PUT", .path = "blob", .body_file = "item.bin"};
    struct chp_run run = order(fixture, &rest);
    const struct chp_run_file files[] = {{.name = "other"}, {.name = "item.bin", .path = path}};
    run.files = files;
    run.file_count = 2;
    struct result *result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_DONE);
    struct chp_sha256 hash = chp_sha256_of(body, BODY_BYTES);
    assert_int_equal(fixture->body_bytes, BODY_BYTES);
    assert_memory_equal(&hash, &fixture->body_hash, sizeof hash);
    free(body);
    (void)unlink(path);

    run.operation = chp_uuid_new();
    result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_non_null(strstr(result->reason, "file 'item.bin' cannot be read"));

    const struct chp_run_file here[] = {{.name = "item.bin", .content = chp_bytes_of("inline")}};
    run = order(fixture, &rest);
    run.files = here;
    run.file_count = 1;
    result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_DONE);
    assert_int_equal(fixture->body_bytes, 6);

    run = order(fixture, &rest); /* no files at all */
    result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_non_null(
        strstr(result->reason, "'item.bin', which is not one of the operation's files"));
}

static void deadline_and_dead_service(void **state)
{
    struct fixture *fixture = *state;
    const struct chp_rest hang = {.service = "inventory", .method = "GET", .path = "hang"};
    struct chp_run run = order(fixture, &hang);
    run.deadline_ms = 150;
    struct result *result = perform(fixture, &run);
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_int_equal(result->exit_code, -1);
    assert_non_null(strstr(result->reason, "timed out"));
    assert_true(result->duration_ms >= 140);
    assert_true(result->duration_ms < 5000);

    result = request(fixture, "GET", "dead", "x");
    assert_int_equal(result->state, CHP_STATE_FAILED);
    assert_int_equal(result->exit_code, -1);
    assert_non_null(strstr(result->reason, "service 'dead' did not answer: "));
}

static void unknown_service(void **state)
{
    struct fixture *fixture = *state;
    struct result *result = request(fixture, "GET", "inventry", "x");
    assert_int_equal(result->state, CHP_STATE_REFUSED);
    assert_int_equal(result->exit_code, -1);
    assert_non_null(strstr(result->reason, "'inventry' is not configured"));
    assert_non_null(strstr(result->reason, "known: inventory, lenient, dead"));

    struct chp_error error = {0};
    const char *headers[] = {"cheops-site: elsewhere"};
    const struct chp_rest rest = {.service = "inventory",
                                  .method = "GET",
                                  .path = "x",
                                  .headers = headers,
                                  .header_count = 1};
    struct chp_run run = order(fixture, &rest);
    assert_int_equal(fixture->driver->vtable->check(fixture->driver, run.payload, NULL, 0, &error),
                     CHP_EINVAL);
    assert_non_null(strstr(error.text, "set by the agent"));
    const struct chp_rest good = {.service = "inventory", .method = "GET", .path = "x"};
    run = order(fixture, &good);
    assert_int_equal(fixture->driver->vtable->check(fixture->driver, run.payload, NULL, 0, &error),
                     0);
}

static void resume_by_method(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *method;
        enum chp_state state;
    } cases[] = {{"PUT", CHP_STATE_DONE},
                 {"DELETE", CHP_STATE_DONE},
                 {"GET", CHP_STATE_DONE},
                 {"POST", CHP_STATE_IN_DOUBT},
                 {"PATCH", CHP_STATE_IN_DOUBT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct chp_rest rest = {
            .service = "inventory", .method = cases[i].method, .path = "x"};
        struct chp_run run = order(fixture, &rest);
        run.resume = true;
        fixture->requests = 0;
        assert_int_equal(perform(fixture, &run)->state, cases[i].state);
        assert_int_equal(fixture->requests, cases[i].state == CHP_STATE_DONE ? 1 : 0);
    }
}

static void concurrency_and_cancel(void **state)
{
    struct fixture *fixture = *state;
    struct result results[7] = {0};
    struct waiting waiting[7];
    struct chp_run runs[7];
    fixture->config.concurrency_max = 2;
    chp_http_driver_reload(fixture->driver, &fixture->config);
    for (int i = 0; i < 7; i++) {
        const struct chp_rest rest = {
            .service = "inventory", .method = "GET", .path = i == 6 ? "hang" : "late"};
        runs[i] = order(fixture, &rest);
        waiting[i] = (struct waiting){.fixture = fixture, .result = &results[i]};
        fixture->driver->vtable->start(fixture->driver, &runs[i], on_done, &waiting[i]);
    }
    fixture->driver->vtable->cancel(fixture->driver, &runs[5].operation, 1); /* waits */
    for (int i = 0; i < 6; i++) {
        wait_for(fixture, &results[i]);
    }
    assert_string_equal(results[5].reason, "canceled");
    assert_int_equal(results[4].state, CHP_STATE_DONE);
    assert_int_equal(fixture->open_requests_max, 2);
    fixture->driver->vtable->cancel(fixture->driver, &runs[6].operation, 1); /* is under way */
    fixture->driver->vtable->cancel(fixture->driver, &runs[6].operation, 9); /* unknown */
    wait_for(fixture, &results[6]);
    assert_int_equal(results[6].state, CHP_STATE_FAILED);
    assert_string_equal(results[6].reason, "canceled");
    /* And the driver goes on. */
    assert_int_equal(request(fixture, "GET", "inventory", "x")->state, CHP_STATE_DONE);
}

static void wrong_services(void **state)
{
    struct fixture *fixture = *state;
    static const char *const urls[] = {"",
                                       "ftp://host/",
                                       "http://",
                                       "http:///",
                                       "host:80",
                                       "http://h?x",
                                       "file:///etc/passwd",
                                       "http://u:secret@h/#"};
    struct chp_error error = {0};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        const struct chp_http_service service = {.name = "s", .url = urls[i]};
        struct chp_http_driver_config config = fixture->config;
        config.services = &service;
        config.service_count = 1;
        assert_null(chp_http_driver_new(&config, &error));
        assert_int_equal(error.code, CHP_EINVAL);
        assert_non_null(strstr(error.text, "service 's'"));
        assert_null(strstr(error.text, "secret"));
        chp_http_driver_reload(fixture->driver, &config);
    }
    assert_int_equal(request(fixture, "GET", "inventory", "x")->state, CHP_STATE_DONE);
}

static void success_lists(void **state)
{
    (void)state;
    struct http_success success;
    struct chp_error error = {0};
    static const char *const wrong[] = {"",        ",",    "200,", "99",      "600", "2000",
                                        "300-200", "200-", "-200", "200 201", "2xx", "200--299"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(http__success_parse(wrong[i], &success, &error), CHP_EINVAL);
        assert_non_null(strstr(error.text, "200-299,409"));
    }
    assert_int_equal(http__success_parse("200-299,409", &success, &error), 0);
    assert_true(http__success_has(&success, 200));
    assert_true(http__success_has(&success, 299));
    assert_true(http__success_has(&success, 409));
    assert_false(http__success_has(&success, 300));
    assert_false(http__success_has(&success, 0));
    assert_int_equal(http__success_parse("200,201,202,203,204,205,206,207,208,209,210,211,212,213,"
                                         "214,215,216",
                                         &success, &error),
                     CHP_EINVAL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(method_path_headers_body),
        TEST(every_method),
        TEST(statuses),
        TEST(big_response_is_cut),
        TEST(body_from_a_file),
        TEST(deadline_and_dead_service),
        TEST(unknown_service),
        TEST(resume_by_method),
        TEST(concurrency_and_cancel),
        TEST(wrong_services),
        cmocka_unit_test(success_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
