/* SPDX-License-Identifier: AGPL-3.0-only */
/* What port/broker.h promises, asked of RabbitMQ and of its twin alike. */
#include "contract/broker/world.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEEN_MAX = 4000, PATIENCE_MS = 20000, TEXT_BYTES = 64 };

struct seen {
    enum chp_key inbox;
    uint64_t tag;
    size_t len;
    size_t body_bytes;
    bool redelivered;
    bool unchecked;
    char text[TEXT_BYTES]; /* beginning of the body */
    char message_id[TEXT_BYTES];
    char reply_to[TEXT_BYTES];
};

struct fixture {
    struct world *world;
    struct chp_broker *broker;
    unsigned ups;
    unsigned downs;
    unsigned drained;
    bool blocked;
    bool ack_at_once;
    struct seen seen[SEEN_MAX];
    size_t seen_count;
    unsigned outcomes[CHP_OUTCOME_LOST + 1];
    uint64_t last_token;
    enum chp_outcome by_token[SEEN_MAX];
    /* Of the last action on dead letters. */
    bool dead_done;
    int dead_code;
    size_t dead_count;
    char dead_ids[10][32];
    char dead_reasons[10][TEXT_BYTES];
    char dead_queues[10][TEXT_BYTES];
    char dead_body[TEXT_BYTES];
};

static void fixture_on_up(void *user)
{
    struct fixture *fixture = user;

    fixture->ups++;
}

static void fixture_on_down(void *user, const struct chp_error *error)
{
    struct fixture *fixture = user;

    assert_true(error->code < 0);
    assert_true(error->text[0] != '\0');
    fixture->downs++;
}

static void fixture_on_blocked(void *user, bool blocked, const char *reason)
{
    struct fixture *fixture = user;

    assert_non_null(reason);
    fixture->blocked = blocked;
}

static void fixture_on_delivery(void *user, const struct chp_delivery *delivery)
{
    struct fixture *fixture = user;
    struct seen *seen = &fixture->seen[fixture->seen_count++];

    assert_true(fixture->seen_count < SEEN_MAX);
    *seen = (struct seen){.inbox = delivery->inbox,
                          .tag = delivery->tag,
                          .len = delivery->body.len,
                          .body_bytes = delivery->body_bytes,
                          .redelivered = delivery->redelivered,
                          .unchecked = delivery->unchecked};
    (void)snprintf(seen->text, sizeof seen->text, "%.*s",
                   (int)(delivery->body.len < TEXT_BYTES ? delivery->body.len : TEXT_BYTES - 1),
                   delivery->body.data == NULL ? "" : (const char *)delivery->body.data);
    (void)snprintf(seen->message_id, sizeof seen->message_id, "%s", delivery->message_id);
    (void)snprintf(seen->reply_to, sizeof seen->reply_to, "%s", delivery->reply_to);
    if (fixture->ack_at_once) {
        chp_broker_ack(fixture->broker, delivery->tag);
    }
}

static void fixture_on_settled(void *user, uint64_t token, enum chp_outcome outcome)
{
    struct fixture *fixture = user;

    fixture->outcomes[outcome]++;
    fixture->last_token = token;
    fixture->by_token[token % SEEN_MAX] = outcome;
}

static void fixture_on_drained(void *user)
{
    struct fixture *fixture = user;

    fixture->drained++;
}

static void fixture_on_dead(void *user, int code, const struct chp_dead_letter *letters,
                            size_t count, const struct chp_error *error)
{
    struct fixture *fixture = user;

    fixture->dead_done = true;
    fixture->dead_code = code;
    fixture->dead_count = count;
    assert_true(code == 0 || error->text[0] != '\0');
    for (size_t i = 0; i < count && i < 10; i++) {
        (void)snprintf(fixture->dead_ids[i], sizeof fixture->dead_ids[i], "%s", letters[i].id);
        (void)snprintf(fixture->dead_reasons[i], TEXT_BYTES, "%s", letters[i].reason);
        (void)snprintf(fixture->dead_queues[i], TEXT_BYTES, "%s", letters[i].queue);
        (void)snprintf(fixture->dead_body, TEXT_BYTES, "%.*s",
                       (int)(letters[i].body.len < TEXT_BYTES ? letters[i].body.len : 63),
                       (const char *)letters[i].body.data);
    }
}

/* Turns until the condition holds; fails the test after PATIENCE_MS. */
#define WAIT(condition)                                                                            \
    do {                                                                                           \
        uint64_t start_ms_ = chp_clock_mono_ms();                                                  \
        while (!(condition)) {                                                                     \
            if (chp_clock_mono_ms() - start_ms_ > PATIENCE_MS) {                                   \
                fail_msg("waited in vain for %s", #condition);                                     \
            }                                                                                      \
            world_turn(fixture->world);                                                            \
        }                                                                                          \
    } while (0)

static const char *const inboxes[] = {"cheops.A.requests", "cheops.A.operations", "cheops.A.acks",
                                      "cheops.A.control",  "cheops.A.beats",      "cheops.A.bulk",
                                      "cheops.dead.A",     "cheops.out.B"};

static void connect_agent(struct fixture *fixture)
{
    const struct chp_broker_callbacks callbacks = {.user = fixture,
                                                   .on_up = fixture_on_up,
                                                   .on_down = fixture_on_down,
                                                   .on_blocked = fixture_on_blocked,
                                                   .on_delivery = fixture_on_delivery,
                                                   .on_settled = fixture_on_settled,
                                                   .on_drained = fixture_on_drained};

    unsigned ups = fixture->ups;
    fixture->broker = world_agent(fixture->world, &callbacks);
    WAIT(fixture->ups == ups + 1);
    assert_true(chp_broker_up(fixture->broker));
}

static int group_setup(void **state)
{
    *state = world_new();
    return 0;
}

static int group_teardown(void **state)
{
    if (*state != NULL) {
        world_free(*state);
    }
    return 0;
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    assert_non_null(fixture);
    fixture->world = *state;
    fixture->ack_at_once = true;
    connect_agent(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    struct world *world = fixture->world;

    chp_broker_free(fixture->broker);
    for (size_t i = 0; i < sizeof inboxes / sizeof inboxes[0]; i++) {
        world_purge(world, inboxes[i]);
    }
    free(fixture);
    *state = world;
    return 0;
}

static int publish(struct fixture *fixture, const char *exchange, const char *key, const char *body,
                   uint64_t token)
{
    const struct chp_publication publication = {.exchange = exchange,
                                                .routing_key = key,
                                                .body = chp_bytes_of(body),
                                                .token = token,
                                                .message_id = "m-1",
                                                .correlation_id = "c-1"};

    return chp_broker_publish(fixture->broker, &publication);
}

static void from_outside(struct fixture *fixture, const char *key, const char *body)
{
    world_publish(fixture->world, "cheops.site.A", key, chp_bytes_of(body), "m-7", "answers");
}

static void publications_are_confirmed(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(0, publish(fixture, "cheops.site.B", "operation", "one", 41));
    assert_int_equal(0, publish(fixture, "cheops.site.B", "ack", "two", 42));
    assert_int_equal(0, publish(fixture, "cheops.site.B", "control", "three", 43));
    assert_int_equal(0, fixture->outcomes[CHP_OUTCOME_CONFIRMED]); /* never from inside the call */
    WAIT(fixture->outcomes[CHP_OUTCOME_CONFIRMED] == 3);
    assert_true(world_holds(fixture->world, "cheops.out.B", 3));
}

static void unroutable_ones_are_returned_and_no_others(void **state)
{
    struct fixture *fixture = *state;

    world_declare(fixture->world, "answers");
    for (uint64_t token = 1; token <= 50; token++) {
        assert_int_equal(
            0, publish(fixture, "", token % 5 == 0 ? "nobody.listens" : "answers", "x", token));
    }
    WAIT(fixture->outcomes[CHP_OUTCOME_CONFIRMED] + fixture->outcomes[CHP_OUTCOME_RETURNED] == 50);
    for (uint64_t token = 1; token <= 50; token++) {
        assert_int_equal(token % 5 == 0 ? CHP_OUTCOME_RETURNED : CHP_OUTCOME_CONFIRMED,
                         fixture->by_token[token]);
    }
    assert_true(world_holds(fixture->world, "answers", 40));
    world_delete(fixture->world, "answers");
}

static void nobody_publishes_requests_towards_another_site(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(0, publish(fixture, "cheops.site.B", "request", "x", 1));
    WAIT(fixture->outcomes[CHP_OUTCOME_RETURNED] == 1);
}

static void every_key_has_its_inbox(void **state)
{
    struct fixture *fixture = *state;

    for (size_t key = 0; key < CHP_KEY_COUNT; key++) {
        from_outside(fixture, chp_key_name((enum chp_key)key), chp_key_name((enum chp_key)key));
    }
    WAIT(fixture->seen_count == CHP_KEY_COUNT);
    for (size_t i = 0; i < CHP_KEY_COUNT; i++) {
        const struct seen *seen = &fixture->seen[i];
        assert_string_equal(chp_key_name(seen->inbox), seen->text);
        assert_string_equal("m-7", seen->message_id);
        assert_string_equal("answers", seen->reply_to);
        assert_false(seen->redelivered);
        assert_false(seen->unchecked);
        assert_int_equal(seen->len, seen->body_bytes);
    }
}

static void acked_in_any_order_is_gone(void **state)
{
    struct fixture *fixture = *state;
    char body[16];

    fixture->ack_at_once = false;
    for (int i = 0; i < 60; i++) {
        (void)snprintf(body, sizeof body, "%d", i);
        from_outside(fixture, "operation", body);
    }
    WAIT(fixture->seen_count == 60);
    for (size_t i = 60; i-- > 0;) {
        if (i % 2 == 0 && i != 10) {
            chp_broker_ack(fixture->broker, fixture->seen[i].tag);
        }
    }
    world_turn(fixture->world);
    for (size_t i = 1; i < 60; i += 2) {
        chp_broker_ack(fixture->broker, fixture->seen[i].tag);
        chp_broker_ack(fixture->broker, fixture->seen[i].tag); /* twice is once */
    }
    for (int i = 0; i < 20; i++) {
        world_turn(fixture->world);
    }
    assert_int_equal(0, fixture->downs); /* a wrong ack would have closed the channel */
    chp_broker_free(fixture->broker);
    fixture->seen_count = 0;
    connect_agent(fixture);
    WAIT(fixture->seen_count == 1);
    assert_string_equal("10", fixture->seen[0].text);
    assert_true(fixture->seen[0].redelivered);
    chp_broker_ack(fixture->broker, fixture->seen[0].tag);
    world_turn(fixture->world);
}

static void oversized_messages_are_cut(void **state)
{
    struct fixture *fixture = *state;
    size_t size = 3 * CHP_MESSAGE_MAX_BYTES;
    char *big = malloc(size);

    assert_non_null(big);
    memset(big, 'b', size);
    world_publish(fixture->world, "cheops.site.A", "request", chp_bytes(big, size), NULL, NULL);
    world_publish(fixture->world, "cheops.site.A", "request", chp_bytes(big, CHP_MESSAGE_MAX_BYTES),
                  NULL, NULL);
    from_outside(fixture, "request", "behind");
    WAIT(fixture->seen_count == 3);
    assert_int_equal(size, fixture->seen[0].body_bytes);
    assert_int_equal(64 * 1024, fixture->seen[0].len);
    assert_int_equal(CHP_MESSAGE_MAX_BYTES, fixture->seen[1].len);
    assert_string_equal("behind", fixture->seen[2].text);
    free(big);
}

static void garbage_is_delivered_as_it_is(void **state)
{
    struct fixture *fixture = *state;

    world_publish(fixture->world, "cheops.site.A", "control", chp_bytes("", 0), NULL, NULL);
    world_publish(fixture->world, "cheops.site.A", "control", chp_bytes("\xff\0\xce\n", 4),
                  "\xff\xfe", "\xc3(");
    WAIT(fixture->seen_count == 2);
    assert_int_equal(0, fixture->seen[0].len);
    assert_int_equal(4, fixture->seen[1].len);
}

static void too_much_is_refused_until_drained(void **state)
{
    struct fixture *fixture = *state;
    size_t max = world_unconfirmed_max(fixture->world);
    size_t sent = 0;
    int code;

    while ((code = publish(fixture, "cheops.site.B", "operation", "x", sent)) == 0) {
        sent++;
        assert_true(sent <= max);
    }
    assert_int_equal(CHP_EBUSY, code);
    assert_int_equal(max, sent);
    WAIT(fixture->drained == 1);
    assert_int_equal(0, publish(fixture, "cheops.site.B", "operation", "x", sent));
    WAIT(fixture->outcomes[CHP_OUTCOME_CONFIRMED] == sent + 1);
    assert_int_equal(1, fixture->drained);
}

static void paused_takes_only_beats(void **state)
{
    struct fixture *fixture = *state;
    char body[16];

    fixture->ack_at_once = false;
    for (int i = 0; i < 30; i++) {
        (void)snprintf(body, sizeof body, "%d", i);
        from_outside(fixture, "operation", body);
    }
    WAIT(fixture->seen_count == 30);
    chp_broker_ack(fixture->broker, fixture->seen[3].tag);
    chp_broker_pause(fixture->broker, true);
    chp_broker_pause(fixture->broker, true);
    assert_true(world_holds(fixture->world, "cheops.A.operations", 29));
    from_outside(fixture, "operation", "later");
    from_outside(fixture, "beat", "beat");
    WAIT(fixture->seen_count == 31);
    assert_int_equal(CHP_KEY_BEAT, fixture->seen[30].inbox);
    chp_broker_ack(fixture->broker, fixture->seen[5].tag); /* not ours any more */
    chp_broker_ack(fixture->broker, fixture->seen[30].tag);
    for (int i = 0; i < 20; i++) {
        world_turn(fixture->world);
    }
    assert_int_equal(31, fixture->seen_count);

    fixture->seen_count = 0;
    fixture->ack_at_once = true;
    chp_broker_pause(fixture->broker, false);
    WAIT(fixture->seen_count == 30);
    for (int i = 0; i < 29; i++) {
        (void)snprintf(body, sizeof body, "%d", i < 3 ? i : i + 1);
        assert_string_equal(body, fixture->seen[i].text); /* in their order */
        assert_true(fixture->seen[i].redelivered);
    }
    assert_string_equal("later", fixture->seen[29].text);
    assert_int_equal(0, fixture->downs);
}

/* Turns for ms. */
static void turn_for(struct fixture *fixture, uint64_t ms)
{
    for (uint64_t start_ms = chp_clock_mono_ms(); chp_clock_mono_ms() - start_ms < ms;) {
        world_turn(fixture->world);
    }
}

static void held_takes_nothing_and_loses_nothing(void **state)
{
    struct fixture *fixture = *state;

    fixture->ack_at_once = false;
    world_publish(fixture->world, "cheops.site.A", "operation", chp_bytes_of("before"), NULL, NULL);
    WAIT(fixture->seen_count == 1);
    chp_broker_hold(fixture->broker, true);
    chp_broker_hold(fixture->broker, true);
    for (int i = 0; i < 50; i++) {
        world_publish(fixture->world, "cheops.site.A", i % 2 == 0 ? "operation" : "beat",
                      chp_bytes_of("held"), NULL, NULL);
    }
    chp_broker_ack(fixture->broker, fixture->seen[0].tag);
    turn_for(fixture, 300);
    assert_int_equal(fixture->seen_count, 1);
    assert_true(chp_broker_up(fixture->broker));
    fixture->ack_at_once = true;
    chp_broker_hold(fixture->broker, false);
    WAIT(fixture->seen_count == 51);
    for (size_t i = 1; i < 51; i++) {
        assert_string_equal(fixture->seen[i].text, "held");
    }
    turn_for(fixture, 100);
    assert_int_equal(fixture->seen_count,
                     51); /* what was acked while held is not delivered again */
    assert_int_equal(fixture->downs, 0);
}

/* Too long in one state: the other way round, and with a pause in between. */
static void held_and_paused_go_together(void **state)
{
    struct fixture *fixture = *state;

    fixture->ack_at_once = false;
    world_publish(fixture->world, "cheops.site.A", "operation", chp_bytes_of("one"), NULL, NULL);
    WAIT(fixture->seen_count == 1);
    chp_broker_hold(fixture->broker, true);
    chp_broker_pause(fixture->broker, true);
    world_publish(fixture->world, "cheops.site.A", "operation", chp_bytes_of("two"), NULL, NULL);
    turn_for(fixture, 100);
    chp_broker_hold(fixture->broker, false);
    turn_for(fixture, 100);
    assert_int_equal(fixture->seen_count, 1);
    fixture->ack_at_once = true;
    chp_broker_pause(fixture->broker, false);
    WAIT(fixture->seen_count == 3);
    assert_string_equal(fixture->seen[1].text, "one");
    assert_true(fixture->seen[1].redelivered);
    assert_string_equal(fixture->seen[2].text, "two");
}

static void pause_and_resume_at_once_loses_nothing(void **state)
{
    struct fixture *fixture = *state;
    char body[16];
    bool got[100] = {0};

    for (int i = 0; i < 100; i++) {
        (void)snprintf(body, sizeof body, "%d", i);
        from_outside(fixture, "operation", body);
        chp_broker_pause(fixture->broker, i % 2 == 0);
        if (i % 10 == 0) {
            world_turn(fixture->world);
        }
    }
    chp_broker_pause(fixture->broker, false);
    uint64_t start_ms = chp_clock_mono_ms();
    for (size_t count = 0; count < 100 && chp_clock_mono_ms() - start_ms < PATIENCE_MS;) {
        world_turn(fixture->world);
        count = 0;
        for (size_t i = 0; i < fixture->seen_count; i++) {
            got[atoi(fixture->seen[i].text)] = true; /* NOLINT(cert-err34-c) */
        }
        for (int i = 0; i < 100; i++) {
            count += got[i];
        }
    }
    for (int i = 0; i < 100; i++) {
        assert_true(got[i]);
    }
    assert_int_equal(0, fixture->downs);
}

static void dead_action(struct fixture *fixture, enum chp_dead_action action, const char *id)
{
    fixture->dead_done = false;
    chp_broker_dead(fixture->broker, action, id, fixture_on_dead, fixture);
    WAIT(fixture->dead_done);
}

static void bury(struct fixture *fixture, const char *body, const char *reason, const char *queue)
{
    const struct chp_publication publication = {.exchange = "cheops.dead.A",
                                                .routing_key = "",
                                                .body = chp_bytes_of(body),
                                                .message_id = body,
                                                .dead_reason = reason,
                                                .dead_queue = queue};
    unsigned confirmed = fixture->outcomes[CHP_OUTCOME_CONFIRMED];

    assert_int_equal(0, chp_broker_publish(fixture->broker, &publication));
    WAIT(fixture->outcomes[CHP_OUTCOME_CONFIRMED] == confirmed + 1);
}

static void dead_letters_are_listed_shown_requeued_dropped(void **state)
{
    struct fixture *fixture = *state;
    char second[32];
    char third[32];

    dead_action(fixture, CHP_DEAD_LIST, NULL);
    assert_int_equal(0, fixture->dead_code);
    assert_int_equal(0, fixture->dead_count);
    bury(fixture, "first", "its header is malformed", "cheops.A.operations");
    bury(fixture, "second", "no key", "cheops.A.requests");
    bury(fixture, "third", "who knows", "somewhere.else");
    dead_action(fixture, CHP_DEAD_LIST, NULL);
    assert_int_equal(3, fixture->dead_count);
    assert_string_equal("its header is malformed", fixture->dead_reasons[0]);
    assert_string_equal("cheops.A.requests", fixture->dead_queues[1]);
    (void)snprintf(second, sizeof second, "%s", fixture->dead_ids[1]);
    (void)snprintf(third, sizeof third, "%s", fixture->dead_ids[2]);

    dead_action(fixture, CHP_DEAD_SHOW, second);
    assert_int_equal(0, fixture->dead_code);
    assert_int_equal(1, fixture->dead_count);
    assert_string_equal("second", fixture->dead_body);

    dead_action(fixture, CHP_DEAD_REQUEUE, second);
    assert_int_equal(0, fixture->dead_code);
    WAIT(fixture->seen_count == 1);
    assert_string_equal("second", fixture->seen[0].text);
    assert_int_equal(CHP_KEY_REQUEST, fixture->seen[0].inbox);
    assert_string_equal("second", fixture->seen[0].message_id);

    dead_action(fixture, CHP_DEAD_REQUEUE, third);
    assert_int_equal(CHP_EREFUSED, fixture->dead_code);
    dead_action(fixture, CHP_DEAD_DROP, third);
    assert_int_equal(0, fixture->dead_code);
    dead_action(fixture, CHP_DEAD_DROP, third);
    assert_int_equal(CHP_ENOTFOUND, fixture->dead_code);
    dead_action(fixture, CHP_DEAD_SHOW, "0123456789abcdef0123456789abcdef");
    assert_int_equal(CHP_ENOTFOUND, fixture->dead_code);

    dead_action(fixture, CHP_DEAD_LIST, NULL);
    assert_int_equal(1, fixture->dead_count);
    assert_string_equal("first", fixture->dead_body);
    assert_int_equal(0, fixture->downs);
}

static void one_action_on_dead_letters_at_a_time(void **state)
{
    struct fixture *fixture = *state;

    bury(fixture, "first", "reason", "cheops.A.acks");
    fixture->dead_done = false;
    chp_broker_dead(fixture->broker, CHP_DEAD_LIST, NULL, fixture_on_dead, fixture);
    assert_false(fixture->dead_done);
    chp_broker_dead(fixture->broker, CHP_DEAD_LIST, NULL, fixture_on_dead, fixture);
    assert_true(fixture->dead_done);
    assert_int_equal(CHP_EBUSY, fixture->dead_code);
    fixture->dead_done = false;
    WAIT(fixture->dead_done);
    assert_int_equal(0, fixture->dead_code);
    assert_int_equal(1, fixture->dead_count);
}

static void a_deleted_inbox_comes_back(void **state)
{
    struct fixture *fixture = *state;

    world_delete(fixture->world, "cheops.A.operations");
    uint64_t start_ms = chp_clock_mono_ms();
    while (fixture->seen_count == 0 && chp_clock_mono_ms() - start_ms < PATIENCE_MS) {
        from_outside(fixture, "operation", "hello"); /* lost as long as there is no queue */
        for (int i = 0; i < 50; i++) {
            world_turn(fixture->world);
        }
    }
    assert_true(fixture->seen_count > 0);
}

static void an_alarm_stops_publishing_only(void **state)
{
    struct fixture *fixture = *state;
    unsigned sent = 0;

    chp_broker_pause(fixture->broker, true);
    from_outside(fixture, "operation", "waits");
    if (!world_block(fixture->world, true)) {
        skip();
    }
    uint64_t start_ms = chp_clock_mono_ms();
    while (!fixture->blocked && chp_clock_mono_ms() - start_ms < PATIENCE_MS) {
        /* A broker tells a client that is blocked when it publishes. */
        sent += publish(fixture, "cheops.site.B", "operation", "x", sent) == 0;
        world_turn(fixture->world);
    }
    assert_true(fixture->blocked);
    assert_true(chp_broker_up(fixture->broker));
    chp_broker_pause(fixture->broker, false);
    WAIT(fixture->seen_count == 1);
    assert_true(world_holds(fixture->world, "cheops.A.operations", 0));
    assert_int_equal(CHP_EUNAVAILABLE, publish(fixture, "cheops.site.B", "operation", "x", 0));
    assert_true(world_block(fixture->world, false));
    WAIT(!fixture->blocked);
    WAIT(fixture->outcomes[CHP_OUTCOME_CONFIRMED] == sent);
    assert_int_equal(0, fixture->downs);
    sent += publish(fixture, "cheops.site.B", "operation", "x", sent) == 0;
    WAIT(fixture->outcomes[CHP_OUTCOME_CONFIRMED] == sent);
}

static void a_killed_broker_comes_back(void **state)
{
    struct fixture *fixture = *state;

    fixture->ack_at_once = false;
    from_outside(fixture, "operation", "held");
    from_outside(fixture, "operation", "acked");
    WAIT(fixture->seen_count == 2);
    chp_broker_ack(fixture->broker, fixture->seen[1].tag);
    world_turn(fixture->world);
    uint64_t old_tag = fixture->seen[0].tag;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(0, publish(fixture, "cheops.site.B", "operation", "in flight", 1));
    }
    if (!world_kill(fixture->world)) {
        skip();
    }
    WAIT(fixture->downs >= 1);
    assert_int_equal(10, fixture->outcomes[CHP_OUTCOME_LOST] +
                             fixture->outcomes[CHP_OUTCOME_CONFIRMED]);
    assert_false(chp_broker_up(fixture->broker));
    assert_int_equal(CHP_EUNAVAILABLE, publish(fixture, "cheops.site.B", "operation", "x", 1));
    fixture->dead_done = false;
    chp_broker_dead(fixture->broker, CHP_DEAD_LIST, NULL, fixture_on_dead, fixture);
    assert_true(fixture->dead_done);
    assert_int_equal(CHP_EUNAVAILABLE, fixture->dead_code);

    fixture->seen_count = 0;
    world_start(fixture->world);
    WAIT(fixture->ups == 2);
    WAIT(fixture->seen_count >= 1);
    assert_string_equal("held", fixture->seen[0].text);
    assert_true(fixture->seen[0].redelivered);
    chp_broker_ack(fixture->broker, old_tag); /* means nothing any more */
    unsigned confirmed = fixture->outcomes[CHP_OUTCOME_CONFIRMED];
    assert_int_equal(0, publish(fixture, "cheops.site.B", "operation", "again", 1));
    WAIT(fixture->outcomes[CHP_OUTCOME_CONFIRMED] == confirmed + 1);
    assert_true(fixture->downs <= 4); /* told once for each reason, not for each attempt */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(publications_are_confirmed, setup, teardown),
        cmocka_unit_test_setup_teardown(unroutable_ones_are_returned_and_no_others, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nobody_publishes_requests_towards_another_site, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(every_key_has_its_inbox, setup, teardown),
        cmocka_unit_test_setup_teardown(acked_in_any_order_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(oversized_messages_are_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_is_delivered_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(too_much_is_refused_until_drained, setup, teardown),
        cmocka_unit_test_setup_teardown(paused_takes_only_beats, setup, teardown),
        cmocka_unit_test_setup_teardown(held_takes_nothing_and_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(held_and_paused_go_together, setup, teardown),
        cmocka_unit_test_setup_teardown(pause_and_resume_at_once_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(dead_letters_are_listed_shown_requeued_dropped, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_action_on_dead_letters_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deleted_inbox_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(an_alarm_stops_publishing_only, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_broker_comes_back, setup, teardown),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
