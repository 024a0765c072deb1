/* SPDX-License-Identifier: AGPL-3.0-only */
/* Answers that go on: waiting for an operation, watching one, events, the prototype's lines;
 * clients that leave or lag. */
#include "fixture.h"

#include "base/clock.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BODY "{\"resource\":\"web\",\"type\":\"set\",\"command\":[\"true\"]}"
#define NOTHING_YET                                                                                \
    "{\"resource\": \"web\", \"origin\": \"Nantes\", \"members\": [\"Nantes\", \"Paris\", "        \
    "\"Rennes\"], \"completed\": false, \"sites\": []}"
#define SITE(site, state, run)                                                                     \
    "{\"site\": \"" site "\", \"state\": \"" state "\", \"run\": " run                             \
    ", \"output\": \"\", \"reason\": null}"
#define KNOWN(sites, completed)                                                                    \
    "{\"resource\": \"web\", \"origin\": \"Nantes\", \"members\": [\"Nantes\", \"Paris\", "        \
    "\"Rennes\"], "                                                                                \
    "\"completed\": " completed ", \"sites\": [" sites "]}"

static void post_waiting(struct client *client, const char *query)
{
    client_say(client,
               "POST /v1/operations?wait=true%s HTTP/1.1\r\n" HEAD
               "Content-Type: application/json\r\n"
               "Content-Length: %zu\r\n\r\n" BODY,
               query, strlen(BODY));
}

static size_t count(const struct client *client, const char *text)
{
    size_t found = 0;
    for (const char *at = client_text(client); (at = strstr(at, text)) != NULL; at++) {
        found++;
    }
    return found;
}

static void results_come_as_sites_answer(void **state)
{
    struct fixture *f = *state;
    f->agent.answers[CHP_QUERY_OPERATION] = NOTHING_YET;
    post_waiting(f->client, "");
    assert_true(client_sees(f->client, "\"duplicate\":false,\"warning\":null}\n", 1000));
    assert_non_null(strstr(client_text(f->client), "application/x-ndjson"));
    double_notice(&f->agent, "Paris", CHP_STATE_RUNNING, "");
    double_notice(&f->agent, "Paris", CHP_STATE_DONE, "hello\n");
    assert_true(client_sees(
        f->client, "\"answered\":1,\"members\":3,\"site\":\"Paris\",\"state\":\"done\",\"run\":1",
        1000));
    assert_non_null(strstr(client_text(f->client), "\"output\":\"hello\\n\""));
    assert_int_equal(count(f->client, "running"), 0);
    double_notice(&f->agent, "Nantes", CHP_STATE_FAILED, "\xff");
    assert_true(client_sees(f->client, "\"output_base64\":\"/w==\"", 1000));
    double_notice(&f->agent, "Rennes", CHP_STATE_DONE, "");
    double_completed(&f->agent, true);
    assert_true(client_sees(f->client,
                            "\"completed\":true,\"state\":\"failed\",\"answered\":3,\"members\":3,"
                            "\"failed\":[\"Nantes\"]}\n",
                            1000));
    assert_true(client_sees(f->client, "\r\n0\r\n\r\n", 1000));
    loop_run(f->base, 10);
    assert_int_equal(f->agent.user_count, 0);
    /* The connection serves on. */
    expect(f, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "{\"ok\":true}");
}

static void progress_is_told_when_asked_for(void **state)
{
    struct fixture *f = *state;
    f->agent.answers[CHP_QUERY_OPERATION] = NOTHING_YET;
    post_waiting(f->client, "&progress=true");
    assert_true(client_sees(f->client, "\"warning\"", 1000));
    double_notice(&f->agent, "Paris", CHP_STATE_DELIVERED, "");
    double_notice(&f->agent, "Paris", CHP_STATE_RUNNING, "");
    double_notice(&f->agent, "Paris", CHP_STATE_DELIVERED, "");
    double_notice(&f->agent, "Paris", CHP_STATE_DONE, "");
    double_notice(&f->agent, "Paris", CHP_STATE_DONE, "");
    assert_true(client_sees(f->client, "\"state\":\"done\"", 1000));
    assert_int_equal(count(f->client, "\"state\":\"delivered\""), 1);
    assert_int_equal(count(f->client, "\"state\":\"running\""), 1);
    assert_int_equal(count(f->client, "\"state\":\"done\""), 1);
}

/* Notices that come while the store is asked are in what the store is asked next. */
static void nothing_is_told_twice_or_lost_while_asking(void **state)
{
    struct fixture *f = *state;
    f->agent.hold_queries = true;
    f->agent.duplicate = true;
    post_waiting(f->client, "");
    assert_true(client_sees(f->client, "\"warning\"", 1000));
    double_notice(&f->agent, "Paris", CHP_STATE_DONE, "");
    double_notice(&f->agent, "Nantes", CHP_STATE_DONE, "");
    double_answer_query(&f->agent, KNOWN(SITE("Paris", "done", "1"), "false"));
    assert_true(client_sees(f->client, "\"answered\":1,", 1000));
    assert_int_equal(f->agent.queries, 2);
    double_notice(&f->agent, "Rennes", CHP_STATE_DONE, "");
    double_completed(&f->agent, false);
    double_answer_query(&f->agent,
                        KNOWN(SITE("Nantes", "done", "1") "," SITE("Paris", "done", "1"), "false"));
    assert_int_equal(f->agent.queries, 3);
    double_answer_query(&f->agent, KNOWN(SITE("Nantes", "done", "1") "," SITE(
                                             "Paris", "done", "1") "," SITE("Rennes", "done", "1"),
                                         "true"));
    assert_true(client_sees(
        f->client, "\"state\":\"done\",\"answered\":3,\"members\":3,\"failed\":[]}", 1000));
    assert_int_equal(count(f->client, "\"site\":\"Paris\""), 1);
    assert_int_equal(count(f->client, "\"site\":\"Nantes\""), 1);
    assert_int_equal(count(f->client, "\"site\":\"Rennes\""), 1);
}

static void a_higher_run_is_told_again_and_a_lower_one_not(void **state)
{
    struct fixture *f = *state;
    f->agent.hold_queries = true;
    f->agent.duplicate = true;
    post_waiting(f->client, "");
    assert_true(client_sees(f->client, "\"warning\"", 1000));
    double_answer_query(&f->agent, KNOWN(SITE("Paris", "in-doubt", "2"), "false"));
    assert_true(client_sees(
        f->client, "\"answered\":0,\"members\":3,\"site\":\"Paris\",\"state\":\"in-doubt\"", 1000));
    double_notice(&f->agent, "Paris", CHP_STATE_DONE, "old"); /* run 1 */
    loop_run(f->base, 10);
    assert_int_equal(count(f->client, "old"), 0);
}

/* A fresh operation needs no query, but when the database was away meanwhile. */
static void what_was_missed_is_read(void **state)
{
    struct fixture *f = *state;
    f->agent.answers[CHP_QUERY_OPERATION] =
        KNOWN(SITE("Nantes", "done", "1") "," SITE("Paris", "failed", "1"), "false");
    post_waiting(f->client, "");
    assert_true(client_sees(f->client, "\"duplicate\":false", 1000));
    double_notice(&f->agent, "Paris", CHP_STATE_DONE, "");
    assert_true(client_sees(f->client, "\"answered\":1,", 1000));
    assert_int_equal(f->agent.queries, 0);
    double_missed(&f->agent);
    assert_int_equal(f->agent.queries, 1);
    assert_true(client_sees(f->client, "\"answered\":2,\"members\":3,\"site\":\"Nantes\"", 1000));
    double_notice(&f->agent, "Rennes", CHP_STATE_DONE, "");
    double_completed(&f->agent, false);
    assert_true(client_sees(f->client, "\"completed\":true", 1000));
    assert_int_equal(f->agent.queries, 1);
    assert_int_equal(count(f->client, "\"site\":\"Paris\""), 1);
}

static void a_known_operation_is_answered_from_the_store(void **state)
{
    struct fixture *f = *state;
    f->agent.duplicate = true;
    f->agent.answers[CHP_QUERY_OPERATION] =
        KNOWN(SITE("Nantes", "done", "1") "," SITE("Paris", "done", "1") "," SITE("Rennes",
                                                                                  "failed", "1"),
              "true");
    post_waiting(f->client, "");
    assert_true(client_sees(f->client, "\"duplicate\":true", 1000));
    assert_true(client_sees(f->client, "\"completed\":true,\"state\":\"failed\"", 1000));
    assert_true(client_sees(f->client, "\r\n0\r\n\r\n", 1000));
}

static void waiting_ends(void **state)
{
    struct fixture *f = *state;
    f->agent.answers[CHP_QUERY_OPERATION] = NOTHING_YET;
    post_waiting(f->client, "&timeout_ms=60");
    assert_true(client_sees(f->client, "\"warning\"", 1000));
    double_notice(&f->agent, "Paris", CHP_STATE_DONE, "");
    assert_true(
        client_sees(f->client, "\"timeout\":true,\"waiting\":[\"Nantes\",\"Rennes\"]}", 1000));
    assert_true(client_sees(f->client, "\r\n0\r\n\r\n", 1000));
}

static void who_hangs_up_is_forgotten_at_once(void **state)
{
    struct fixture *f = *state;
    f->agent.answers[CHP_QUERY_OPERATION] = NOTHING_YET;
    post_waiting(f->client, "");
    assert_true(client_sees(f->client, "\"warning\"", 1000));
    assert_int_equal(f->agent.user_count, 1);
    client_free(f->client);
    loop_run(f->base, 20);
    assert_int_equal(f->agent.user_count, 0);
    /* Before the answer has begun, too. */
    f->agent.hold = true;
    f->client = fixture_client(f);
    post_waiting(f->client, "");
    loop_run(f->base, 20);
    assert_int_equal(f->agent.user_count, 1);
    client_free(f->client);
    loop_run(f->base, 20);
    assert_int_equal(f->agent.user_count, 0);
    assert_null(f->agent.on_reply);
    f->agent.hold = false;
    f->agent.hold_queries = true;
    f->client = fixture_client(f);
    client_say(f->client, "GET /v1/resources HTTP/1.1\r\n" HEAD "\r\n");
    loop_run(f->base, 20);
    assert_int_equal(f->agent.user_count, 1);
    client_free(f->client);
    loop_run(f->base, 20);
    assert_int_equal(f->agent.user_count, 0);
    assert_int_equal(f->agent.metrics.http_connections, 0);
    f->client = fixture_client(f);
}

static void the_door_may_close_with_everything_open(void **state)
{
    struct fixture *f = *state;
    struct client *waiting = fixture_client(f);
    struct client *posting = fixture_client(f);
    f->agent.answers[CHP_QUERY_OPERATION] = NOTHING_YET;
    post_waiting(waiting, "");
    assert_true(client_sees(waiting, "\"warning\"", 1000));
    f->agent.hold_queries = true;
    client_say(f->client, "GET /v1/resources HTTP/1.1\r\n" HEAD "\r\n");
    client_say(posting, "POST /v1/blobs HTTP/1.1\r\n" HEAD "Content-Length: 9\r\n\r\nabc");
    loop_run(f->base, 20);
    assert_int_equal(f->agent.user_count, 2);
    chp_http_door_free(f->door);
    f->door = NULL;
    assert_int_equal(f->agent.user_count, 0);
    assert_int_equal(f->agent.blob_open, 0);
    client_free(waiting);
    client_free(posting);
}

/* --- watching ---------------------------------------------------------------------------- */

#define WATCH                                                                                      \
    "GET /v1/operations/0192f000-0000-7000-8000-000000000001/watch HTTP/1.1\r\n" HEAD "\r\n"

static void an_operation_is_watched(void **state)
{
    struct fixture *f = *state;
    f->agent.last.resource = "web";
    f->agent.answers[CHP_QUERY_OPERATION] = KNOWN(SITE("Paris", "done", "1"), "false");
    client_say(f->client, WATCH);
    assert_true(client_sees(f->client, "event: result\ndata: {", 1000));
    assert_non_null(strstr(client_text(f->client), "text/event-stream"));
    assert_non_null(strstr(client_text(f->client), "retry: 2000\n\n"));
    double_notice(&f->agent, "Rennes", CHP_STATE_DONE, "");
    double_notice(&f->agent, "Nantes", CHP_STATE_DONE, "");
    double_completed(&f->agent, false);
    assert_true(client_sees(f->client, "event: completed\ndata: {", 1000));
    assert_int_equal(count(f->client, "event: result\n"), 3);
    assert_true(client_sees(f->client, "\r\n0\r\n\r\n", 1000));
}

static void what_cannot_be_watched_is_told(void **state)
{
    struct fixture *f = *state;
    expect(f, WATCH, 404, "not found");
    f->agent.answers[CHP_QUERY_OPERATION] = "{\"resource\": \"web\", \"origin\": \"Rennes\", "
                                            "\"members\": [], \"completed\": false, \"sites\": []}";
    expect(f, WATCH, 422, "entered at Rennes");
    f->agent.query_code = CHP_EUNAVAILABLE;
    expect(f, WATCH, 503, "the database does not answer");
}

/* --- the prototype ----------------------------------------------------------------------- */

#define FORM                                                                                       \
    "--X\r\nContent-Disposition: form-data; name=command\r\n\r\nhostname\r\n"                      \
    "--X\r\nContent-Disposition: form-data; name=type\r\n\r\nset\r\n--X--\r\n"

static void post_form(struct client *client, const char *path)
{
    client_say(client,
               "POST %s HTTP/1.1\r\n" HEAD
               "Content-Type: multipart/form-data; boundary=X\r\nContent-Length: %zu\r\n\r\n" FORM,
               path, strlen(FORM));
}

static void exec_answers_as_the_prototype(void **state)
{
    struct fixture *f = *state;
    f->door->exec_timeout_ms = 80;
    f->agent.answers[CHP_QUERY_OPERATION] = NOTHING_YET;
    post_form(f->client, "/exec/web");
    assert_true(client_sees(f->client, "HTTP/1.1 200 ", 1000));
    assert_null(f->agent.last.scope);
    double_notice(&f->agent, "Paris", CHP_STATE_DONE, "paris\n");
    double_notice(&f->agent, "Rennes", CHP_STATE_FAILED, "");
    assert_true(
        client_sees(f->client, "{\"Site\":\"Paris\",\"Status\":\"OK\",\"RequestId\":\"", 1000));
    assert_non_null(
        strstr(client_text(f->client),
               "\"ResourceId\":\"web\",\"Locations\":[\"Nantes\",\"Paris\",\"Rennes\"],"
               "\"Cmd\":{\"Input\":\"hostname\",\"Output\":\"paris\\n\"},\"Type\":\"REPLY\"}\n"));
    assert_true(client_sees(f->client, "\"Site\":\"Rennes\",\"Status\":\"KO\"", 1000));
    assert_true(client_sees(f->client, "\"Output\":\"exit code 3\"", 1000));
    assert_true(client_sees(f->client, "\"Site\":\"Nantes\",\"Status\":\"TIMEOUT\"", 1000));
    assert_true(client_sees(f->client, "\r\n0\r\n\r\n", 1000));
    assert_int_equal(GATEWAY_EXEC_TIMEOUT_MS, 20000);
}

static void answer(struct fixture *f, const char *site, enum chp_state site_state,
                   const char *output)
{
    static const char *const sites[] = {"Nantes", "Paris", "Rennes"};
    struct chp_answer one = {.site = site, .state = site_state, .output = chp_bytes_of(output)};
    struct double_user *user = &f->agent.users[0];
    assert_int_equal(f->agent.user_count, 1);
    user->on_answer(user->user, 0, site != NULL ? &one : NULL, sites, 3, NULL);
}

static void show_answers_as_the_prototype(void **state)
{
    struct fixture *f = *state;
    post_form(f->client, "/show/web");
    loop_run(f->base, 20);
    answer(f, "Paris", CHP_STATE_DONE, "a");
    answer(f, "Rennes", CHP_STATE_FAILED, "b");
    answer(f, NULL, CHP_STATE_DONE, "");
    assert_true(client_sees(f->client,
                            "{\"Paris\":{\"Status\":\"OK\",\"Output\":\"a\"},\"Rennes\":{"
                            "\"Status\":\"KO\",\"Output\":\"b\"},"
                            "\"Nantes\":{\"Status\":\"TIMEOUT\",\"Output\":\"\"}}",
                            1000));
    f->agent.reply_code = CHP_ENOTFOUND;
    client_clear(f->client);
    post_form(f->client, "/show/web");
    assert_true(client_sees(f->client, "404 ", 1000));
}

static void show_compares_the_sites(void **state)
{
    struct fixture *f = *state;
    static const char body[] = "{\"command\":[\"cat\",\"x\"],\"timeout_ms\":5000}";
    for (int round = 0; round < 2; round++) {
        client_say(f->client,
                   "POST /v1/resources/web/show HTTP/1.1\r\n" HEAD
                   "Content-Type: application/json\r\n"
                   "Content-Length: %zu\r\n\r\n%s",
                   strlen(body), body);
        loop_run(f->base, 20);
        assert_int_equal(f->agent.last.deadline_ms, 5000);
        answer(f, "Paris", CHP_STATE_DONE, "a");
        answer(f, "Rennes", CHP_STATE_DONE, round == 0 ? "a" : "b");
        answer(f, NULL, CHP_STATE_DONE, "");
        assert_true(
            client_sees(f->client, round == 0 ? "\"differ\":false}" : "\"differ\":true}", 1000));
        assert_non_null(strstr(client_text(f->client), "\"Nantes\":{\"state\":\"timeout\""));
        loop_run(f->base, 10);
    }
}

static void ask(struct fixture *f, const char *call, const char *body)
{
    client_clear(f->client);
    client_say(f->client,
               "POST /v1/resources/web/%s HTTP/1.1\r\n" HEAD "Content-Type: application/json\r\n"
               "Content-Length: %zu\r\n\r\n%s",
               call, strlen(body), body);
    loop_run(f->base, 20);
}

static void a_plan_is_each_members_own(void **state)
{
    struct fixture *f = *state;
    ask(f, "plan", "{\"type\":\"set\",\"timeout_ms\":7}");
    assert_string_equal(f->agent.last.type, "set");
    assert_int_equal(f->agent.last.deadline_ms, 7);
    answer(f, "Paris", CHP_STATE_DONE, "{\"plan\":\"append\"}");
    answer(f, "Rennes", CHP_STATE_REFUSED, "");
    answer(f, NULL, CHP_STATE_DONE, "");
    assert_true(client_sees(
        f->client,
        "{\"resource\":\"web\",\"type\":\"set\",\"sites\":{\"Nantes\":{\"state\":\"timeout\","
        "\"plan\":null,\"reason\":\"the site did not answer in time\"},\"Paris\":{\"state\":"
        "\"done\",\"plan\":{\"plan\":\"append\"},\"reason\":null},\"Rennes\":{\"state\":"
        "\"refused\","
        "\"plan\":null,\"reason\":null}}}",
        1000));
    ask(f, "plan",
        "{\"type\":\"set\",\"command\":[\"touch\",\"a\"],\"undo\":{\"command\":[\"rm\",\"a\"]}}");
    assert_string_equal(f->agent.last.type, "set undo");
    answer(f, "Paris", CHP_STATE_DONE, "not JSON");
    answer(f, NULL, CHP_STATE_DONE, "");
    assert_true(
        client_sees(f->client,
                    "\"Paris\":{\"state\":\"refused\",\"plan\":null,\"reason\":\"its answer "
                    "cannot be read\"}",
                    1000));
    ask(f, "plan", "{}");
    assert_true(client_sees(f->client, "field \\\"type\\\" is missing", 1000));
    ask(f, "plan", "{\"type\":\"set\",\"undo\":{\"command\":[\"rm\"]}}");
    assert_true(client_sees(f->client, "one of the fields", 1000));
    ask(f, "plan", "{\"type\":\"set\",\"command\":[\"forbidden\"]}");
    assert_true(client_sees(f->client, "403 ", 1000));
    f->agent.reply_code = CHP_EREFUSED;
    ask(f, "plan", "{\"type\":\"set\"}");
    assert_true(client_sees(f->client, "422 ", 1000));
}

#define KNOWS(digest, vector, forgotten)                                                           \
    "{\"digest\":\"" digest "\",\"vector_digest\":\"" vector                                       \
    "\",\"forgotten_digest\":\"" forgotten "\"}"

static void a_diff_compares_knowledge_and_answers(void **state)
{
    struct fixture *f = *state;
    ask(f, "diff", "{}");
    answer(f, "Paris", CHP_STATE_DONE, KNOWS("a", "v", "f"));
    answer(f, "Rennes", CHP_STATE_DONE, KNOWS("a", "v", "f"));
    answer(f, NULL, CHP_STATE_DONE, "");
    assert_true(client_sees(f->client, "\"answers\":null,\"groups\":null}", 1000));
    assert_non_null(strstr(client_text(f->client), "\"same\":null")); /* Nantes is silent */
    static const struct {
        const char *knows;
        const char *same;
    } others[] = {{KNOWS("a", "v", "f"), "\"same\":true"},
                  {KNOWS("b", "v", "f"), "\"same\":false"},
                  {KNOWS("b", "v", "g"), "\"same\":true"},
                  {KNOWS("a", "w", "f"), "\"same\":false"}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        ask(f, "diff", "{}");
        answer(f, "Nantes", CHP_STATE_DONE, KNOWS("a", "v", "f"));
        answer(f, "Paris", CHP_STATE_DONE, others[i].knows);
        answer(f, "Rennes", CHP_STATE_DONE, KNOWS("a", "v", "f"));
        answer(f, NULL, CHP_STATE_DONE, "");
        assert_true(client_sees(f->client, others[i].same, 1000));
    }
    ask(f, "diff", "{\"command\":[\"cat\",\"x\"],\"timeout_ms\":5000}");
    answer(f, "Nantes", CHP_STATE_DONE, KNOWS("a", "v", "f"));
    answer(f, "Paris", CHP_STATE_DONE, KNOWS("b", "v", "f"));
    answer(f, "Rennes", CHP_STATE_DONE, KNOWS("a", "v", "f"));
    struct double_user reading = f->agent.users[0];
    f->agent.user_count = 0; /* the next show is asked for from inside this answer */
    static const char *const sites[] = {"Nantes", "Paris", "Rennes"};
    reading.on_answer(reading.user, 0, NULL, sites, 3, NULL);
    assert_int_equal(f->agent.last.deadline_ms, 5000);
    answer(f, "Nantes", CHP_STATE_DONE, "1");
    answer(f, "Paris", CHP_STATE_DONE, "2");
    answer(f, "Rennes", CHP_STATE_DONE, "2");
    answer(f, NULL, CHP_STATE_DONE, "");
    assert_true(client_sees(f->client, "\"groups\":[[\"Paris\",\"Rennes\"],[\"Nantes\"]]}", 1000));
    assert_non_null(strstr(client_text(f->client), "\"same\":false"));
    ask(f, "diff", "{\"comand\":[\"cat\"]}");
    assert_true(client_sees(f->client, "did you mean \\\"command\\\"", 1000));
    ask(f, "diff", "{\"command\":[\"forbidden\"]}");
    assert_true(client_sees(f->client, "403 ", 1000));
}

/* --- events ------------------------------------------------------------------------------ */

static void events_replay_and_go_on(void **state)
{
    struct fixture *f = *state;
    f->agent.hold_queries = true;
    client_say(f->client, "GET /v1/events HTTP/1.1\r\n" HEAD
                          "Accept: text/event-stream\r\nLast-Event-ID: 3\r\n\r\n");
    loop_run(f->base, 20);
    assert_string_equal(f->agent.users[1].param, "3");
    double_event(&f->agent, 5); /* while the page is on its way */
    double_answer_query(&f->agent, "{\"events\": [{\"number\": 4, \"kind\": \"a\"}], \"last\": 4}");
    assert_true(client_sees(f->client, "id: 4\ndata: {\"number\":4", 1000));
    assert_string_equal(f->agent.users[1].param, "4"); /* another page, for 5 */
    double_answer_query(&f->agent, "{\"events\": [{\"number\": 5, \"kind\": \"b\"}], \"last\": 5}");
    double_event(&f->agent, 5);
    double_event(&f->agent, 6);
    assert_true(client_sees(f->client, "id: 6\n", 1000));
    double_event(&f->agent, 9); /* a gap: from the store */
    assert_string_equal(f->agent.users[1].param, "6");
    double_answer_query(&f->agent, "{\"events\": [{\"number\": 7}, {\"number\": 9}], \"last\": 9}");
    double_event(&f->agent, 10);
    assert_true(client_sees(f->client, "id: 10\n", 1000));
    for (int i = 4; i <= 10; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "id: %d\n", i);
        assert_int_equal(count(f->client, id), i != 8);
    }
}

static void events_begin_now_without_a_number(void **state)
{
    struct fixture *f = *state;
    f->door->heartbeat_ms = 100;
    f->agent.answers[CHP_QUERY_STATUS] = "{\"event_last\": 41}";
    client_say(f->client, "GET /v1/events?follow=true HTTP/1.1\r\n" HEAD "\r\n");
    assert_true(client_sees(f->client, "retry: 2000", 1000));
    double_event(&f->agent, 42);
    assert_true(client_sees(f->client, "id: 42\n", 1000));
    assert_true(client_sees(f->client, ": still here\n\n", 3000));
    f->agent.query_code = CHP_EUNAVAILABLE;
    struct client *other = fixture_client(f);
    client_say(other, "GET /v1/events?follow=true HTTP/1.1\r\n" HEAD "\r\n");
    assert_true(client_sees(other, "503 ", 1000));
    client_free(other);
}

/* A reader that stops is not written for; when it reads on it gets everything, in order. */
static void who_reads_slowly_misses_nothing(void **state)
{
    struct fixture *f = *state;
    enum { EVENTS = 100000 };
    f->agent.answers[CHP_QUERY_STATUS] = "{\"event_last\": 0}";
    client_say(f->client, "GET /v1/events?follow=true HTTP/1.1\r\n" HEAD "\r\n");
    assert_true(client_sees(f->client, "retry: 2000", 1000));
    client_pause(f->client, true);
    f->agent.hold_queries = true;
    size_t told = 0;
    while (f->agent.queries == 1 && told < EVENTS) {
        double_event(&f->agent, ++told);
        if (told % 100 == 0) {
            (void)event_base_loop(f->base, EVLOOP_NONBLOCK);
        }
        size_t backlog = 0;
        struct chp_list *node = chp_list_first(&f->door->connections);
        struct gateway_connection *connection =
            CHP_CONTAINER(node, struct gateway_connection, node);
        backlog = evbuffer_get_length(bufferevent_get_output(connection->bev));
        assert_true(backlog <= GATEWAY_BACKLOG_BYTES + 1024);
    }
    assert_int_equal(told, EVENTS);
    assert_int_equal(f->agent.queries, 1); /* no page is read for one that does not read */
    client_pause(f->client, false);
    while (f->agent.queries == 1) {
        loop_run(f->base, 5);
    }
    char page[128];
    (void)snprintf(page, sizeof page, "{\"events\": [{\"number\": %d}], \"last\": %d}", EVENTS,
                   EVENTS);
    uint64_t from = strtoull(f->agent.users[1].param, NULL, 10);
    assert_true(from > 100 && from < EVENTS);
    double_answer_query(&f->agent, page);
    assert_true(client_sees(f->client, "id: 100000\n", 5000));
    char last[32];
    (void)snprintf(last, sizeof last, "id: %llu\n", (unsigned long long)from);
    assert_int_equal(count(f->client, last), 1);
}

static void who_does_not_read_at_all_is_closed(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(300, 8);
    f->agent.answers[CHP_QUERY_STATUS] = "{\"event_last\": 0}";
    client_say(f->client, "GET /v1/events?follow=true HTTP/1.1\r\n" HEAD "\r\n");
    assert_true(client_sees(f->client, "retry: 2000", 1000));
    /* One that has nothing to read stays. */
    loop_run(f->base, 700);
    assert_false(f->client->closed);
    client_pause(f->client, true);
    for (uint64_t i = 1; i < 100000; i++) {
        double_event(&f->agent, i);
        if (i % 100 == 0) {
            (void)event_base_loop(f->base, EVLOOP_NONBLOCK);
        }
    }
    loop_run(f->base, 800);
    assert_int_equal(f->agent.user_count, 0);
    assert_int_equal(f->agent.metrics.http_connections, 0);
    fixture_free(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(results_come_as_sites_answer),
        TEST(progress_is_told_when_asked_for),
        TEST(nothing_is_told_twice_or_lost_while_asking),
        TEST(a_higher_run_is_told_again_and_a_lower_one_not),
        TEST(what_was_missed_is_read),
        TEST(a_known_operation_is_answered_from_the_store),
        TEST(waiting_ends),
        TEST(who_hangs_up_is_forgotten_at_once),
        TEST(the_door_may_close_with_everything_open),
        TEST(an_operation_is_watched),
        TEST(what_cannot_be_watched_is_told),
        TEST(exec_answers_as_the_prototype),
        TEST(show_answers_as_the_prototype),
        TEST(show_compares_the_sites),
        TEST(a_plan_is_each_members_own),
        TEST(a_diff_compares_knowledge_and_answers),
        TEST(events_replay_and_go_on),
        TEST(events_begin_now_without_a_number),
        TEST(who_reads_slowly_misses_nothing),
        cmocka_unit_test(who_does_not_read_at_all_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
