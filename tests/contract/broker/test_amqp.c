/* SPDX-License-Identifier: AGPL-3.0-only */
/* What only the real broker shows: TLS, a broker that hangs, refuses, or is none, and ways around
 * topic permissions. */
#include "contract/broker/world_amqp.h"

#include "base/clock.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 20000 };

struct fixture {
    struct world *world;
    struct chp_broker *broker;
    unsigned ups;
    unsigned downs;
    struct chp_error error; /* of the last on_down */
    unsigned deliveries;
    bool unchecked;
};

static void fixture_on_up(void *user)
{
    ((struct fixture *)user)->ups++;
}

static void fixture_on_down(void *user, const struct chp_error *error)
{
    struct fixture *fixture = user;

    fixture->downs++;
    fixture->error = *error;
}

static void fixture_on_blocked(void *user, bool blocked, const char *reason)
{
    (void)user;
    (void)blocked;
    (void)reason;
}

static void fixture_on_delivery(void *user, const struct chp_delivery *delivery)
{
    struct fixture *fixture = user;

    fixture->deliveries++;
    fixture->unchecked = delivery->unchecked;
    chp_broker_ack(fixture->broker, delivery->tag);
}

static void fixture_on_settled(void *user, uint64_t token, enum chp_outcome outcome)
{
    (void)user;
    (void)token;
    (void)outcome;
}

static void fixture_on_drained(void *user)
{
    (void)user;
}

#define WAIT(condition)                                                                            \
    do {                                                                                           \
        uint64_t start_ms_ = chp_clock_mono_ms();                                                  \
        while (!(condition)) {                                                                     \
            if (chp_clock_mono_ms() - start_ms_ > PATIENCE_MS) {                                   \
                fail_msg("waited in vain for %s; %s", #condition, fixture->error.text);            \
            }                                                                                      \
            world_turn(fixture->world);                                                            \
        }                                                                                          \
    } while (0)

static void start(struct fixture *fixture, const struct chp_amqp_config *config)
{
    const struct chp_broker_callbacks callbacks = {.user = fixture,
                                                   .on_up = fixture_on_up,
                                                   .on_down = fixture_on_down,
                                                   .on_blocked = fixture_on_blocked,
                                                   .on_delivery = fixture_on_delivery,
                                                   .on_settled = fixture_on_settled,
                                                   .on_drained = fixture_on_drained};
    struct chp_error error = {0};

    fixture->broker = chp_amqp_broker_new(config, &callbacks, &error);
    assert_string_equal("", error.text);
    assert_non_null(fixture->broker);
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
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    chp_broker_free(fixture->broker);
    *state = fixture->world;
    free(fixture);
    return 0;
}

static void the_agent_agrees_with_the_generated_broker(void **state)
{
    struct fixture *fixture = *state;
    struct chp_amqp_config config = world_config(fixture->world);
    char uri[300];

    world_import_generated(fixture->world, uri, sizeof uri);
    config.uri = uri;
    start(fixture, &config);
    WAIT(fixture->ups == 1);
    assert_int_equal(0, fixture->downs); /* same arguments, and the user's permissions are enough */
}

static void a_message_by_another_way_is_unchecked(void **state)
{
    struct fixture *fixture = *state;
    struct chp_amqp_config config = world_config(fixture->world);

    start(fixture, &config);
    WAIT(fixture->ups == 1);
    world_publish(fixture->world, "cheops.site.A", "operation", chp_bytes_of("x"), NULL, NULL);
    WAIT(fixture->deliveries == 1);
    assert_false(fixture->unchecked);
    world_bind_exchange(fixture->world, "mine", "cheops.site.A");
    world_publish(fixture->world, "mine", "operation", chp_bytes_of("x"), NULL, NULL);
    WAIT(fixture->deliveries == 2);
    assert_true(fixture->unchecked);
}

static void a_queue_with_other_arguments_is_said_and_tried_again(void **state)
{
    struct fixture *fixture = *state;
    struct chp_amqp_config config = world_config(fixture->world);

    world_delete(fixture->world, "cheops.A.beats");
    world_declare_with_length(fixture->world, "cheops.A.beats", 5);
    start(fixture, &config);
    WAIT(fixture->downs > 0);
    assert_int_equal(CHP_ECONFLICT, fixture->error.code);
    assert_non_null(strstr(fixture->error.text, "cheops.A.beats"));
    assert_non_null(strstr(fixture->error.text, "delete it"));
    for (int i = 0; i < 200; i++) {
        world_turn(fixture->world);
    }
    assert_int_equal(0, fixture->ups);
    assert_in_range(fixture->downs, 1, 2); /* the same reason is told once */
    world_delete(fixture->world, "cheops.A.beats");
    WAIT(fixture->ups == 1);
}

static void a_wrong_password_is_said(void **state)
{
    struct fixture *fixture = *state;
    struct chp_amqp_config config = world_config(fixture->world);
    char uri[100];

    (void)snprintf(uri, sizeof uri, "amqp://guest:verysecret@127.0.0.1:%d/%%2F",
                   world_tls_port(fixture->world) - 1);
    config.uri = uri;
    start(fixture, &config);
    WAIT(fixture->downs > 0);
    assert_int_equal(CHP_EFORBIDDEN, fixture->error.code);
    assert_null(strstr(fixture->error.text, "verysecret"));
}

static void a_hanging_broker_is_left(void **state)
{
    struct fixture *fixture = *state;
    struct chp_amqp_config config = world_config(fixture->world);

    config.heartbeat_s = 1;
    start(fixture, &config);
    WAIT(fixture->ups == 1);
    uint64_t start_ms = chp_clock_mono_ms();
    pid_t pid = world_pid(fixture->world);
    assert_int_equal(0, kill(pid, SIGSTOP));
    while (fixture->downs == 0 && chp_clock_mono_ms() - start_ms < PATIENCE_MS) {
        world_turn(fixture->world);
    }
    assert_int_equal(0, kill(pid, SIGCONT));
    assert_in_range(chp_clock_mono_ms() - start_ms, 1000, 6000); /* heartbeat: 1 s */
    assert_non_null(strstr(fixture->error.text, "silent"));
    WAIT(fixture->ups == 2);
}

static struct chp_amqp_config tls_config(struct fixture *fixture, char *uri, size_t uri_bytes,
                                         char *ca, size_t ca_bytes)
{
    struct chp_amqp_config config = world_config(fixture->world);

    (void)snprintf(uri, uri_bytes, "amqps://guest:guest@localhost:%d/%%2F",
                   world_tls_port(fixture->world));
    (void)snprintf(ca, ca_bytes, "%s/ca.pem", world_directory(fixture->world));
    config.uri = uri;
    config.ca_file = ca;
    return config;
}

static void tls_works_with_the_right_authority_and_name(void **state)
{
    struct fixture *fixture = *state;
    char uri[100];
    char ca[100];
    struct chp_amqp_config config = tls_config(fixture, uri, sizeof uri, ca, sizeof ca);

    start(fixture, &config);
    WAIT(fixture->ups == 1);
    world_publish(fixture->world, "cheops.site.A", "operation", chp_bytes_of("x"), NULL, NULL);
    WAIT(fixture->deliveries == 1);
}

static void tls_with_an_address_is_verified_too(void **state)
{
    struct fixture *fixture = *state;
    char uri[100];
    char ca[100];
    struct chp_amqp_config config = tls_config(fixture, uri, sizeof uri, ca, sizeof ca);

    config.server_name = "127.0.0.1";
    start(fixture, &config);
    WAIT(fixture->ups == 1);
}

static void tls_refuses_another_name(void **state)
{
    struct fixture *fixture = *state;
    char uri[100];
    char ca[100];
    struct chp_amqp_config config = tls_config(fixture, uri, sizeof uri, ca, sizeof ca);

    config.server_name = "nantes.example.org";
    start(fixture, &config);
    WAIT(fixture->downs > 0);
    assert_non_null(strstr(fixture->error.text, "certificate is not accepted"));
    assert_int_equal(0, fixture->ups);
}

static void tls_refuses_another_authority(void **state)
{
    struct fixture *fixture = *state;
    char uri[100];
    char ca[100];
    struct chp_amqp_config config = tls_config(fixture, uri, sizeof uri, ca, sizeof ca);

    config.ca_file = NULL; /* the system's */
    start(fixture, &config);
    WAIT(fixture->downs > 0);
    assert_non_null(strstr(fixture->error.text, "certificate is not accepted"));
    assert_int_equal(0, fixture->ups);
}

static const char *const babble[] = {
    "HTTP/1.1 400 Bad Request\r\n\r\n", "AMQP\1\1\0\12",
    "\1\0\0\x7f\xff\xff\xff\0",     /* a frame of 2 GiB */
    "\1\0\0\0\0\0\4\0\12\0\36\xce", /* tune before start */
};

static void stranger_on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                               struct sockaddr *address, int len, void *user)
{
    unsigned *visits = user;
    static const size_t lens[] = {28, 8, 8, 12};
    size_t which = (*visits)++ % 4;

    (void)listener;
    (void)address;
    (void)len;
    (void)!write(fd, babble[which], lens[which]);
    (void)shutdown(fd, SHUT_WR);
    (void)evutil_closesocket(fd);
}

static void what_is_no_broker_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    struct chp_amqp_config config = world_config(fixture->world);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    unsigned visits = 0;
    char uri[100];

    struct evconnlistener *listener =
        evconnlistener_new_bind(config.base, stranger_on_accept, &visits, LEV_OPT_CLOSE_ON_FREE, 5,
                                (struct sockaddr *)&address, sizeof address);
    assert_non_null(listener);
    assert_int_equal(
        0, getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &len));
    (void)snprintf(uri, sizeof uri, "amqp://guest:guest@127.0.0.1:%d/", ntohs(address.sin_port));
    config.uri = uri;
    start(fixture, &config);
    WAIT(visits >= 16);
    assert_int_equal(0, fixture->ups);
    assert_true(fixture->downs > 0);
    evconnlistener_free(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First, while the broker is empty. */
        cmocka_unit_test_setup_teardown(the_agent_agrees_with_the_generated_broker, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_message_by_another_way_is_unchecked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_queue_with_other_arguments_is_said_and_tried_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_wrong_password_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hanging_broker_is_left, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_works_with_the_right_authority_and_name, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(tls_with_an_address_is_verified_too, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_refuses_another_name, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_refuses_another_authority, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_broker_is_left_alone, setup, teardown),
    };

    /* These need a node of their own. */
    (void)unsetenv("CHEOPS_TEST_AMQP");
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
