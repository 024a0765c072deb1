/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * RabbitMQ: a node of its own (node.py), with a listener for TLS; or the broker that
 * CHEOPS_TEST_AMQP names, which is then neither killed nor blocked. The foreign client is
 * librabbitmq's blocking one.
 */
#include "contract/broker/world_amqp.h"

#include "base/clock.h"
#include "base/mem.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { UNCONFIRMED_MAX = 200, HOLDS_TIMEOUT_MS = 5000 };

struct world {
    struct event_base *base;
    char directory[64];
    char uri[300];
    int port; /* 0: not ours */
    amqp_connection_state_t client;
};

static const struct chp_amqp_peer peers[] = {{.site = "B"}, {.site = "C", .local = true}};

/* Runs a shell command, and the agent's loop meanwhile, since the broker expects heartbeats. A
 * failure ends the test. */
static void run(struct world *world, const char *format, ...) CHP_PRINTF(2, 3);

static void run(struct world *world, const char *format, ...)
{
    char command[1024];
    va_list args;
    int status;

    va_start(args, format);
    (void)vsnprintf(command, sizeof command, format, args);
    va_end(args);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    while (waitpid(child, &status, WNOHANG) == 0) {
        world_turn(world);
    }
    if (status != 0) {
        fail_msg("%s", command);
    }
}

static const char *source_dir(void)
{
    const char *directory = getenv("CHEOPS_SOURCE_DIR");

    return directory == NULL ? "." : directory;
}

static void node(struct world *world, const char *verb, const char *arguments)
{
    run(world, "/usr/bin/python3 %s/tests/contract/broker/node.py %s %s %s > /dev/null",
        source_dir(), verb, world->directory, arguments);
}

static void write_config(const struct world *world)
{
    char path[128];

    (void)snprintf(path, sizeof path, "%s/rabbitmq.conf", world->directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "listeners.ssl.1 = 127.0.0.1:%d\n"
                  "ssl_options.cacertfile = %s/ca.pem\n"
                  "ssl_options.certfile = %s/node.pem\n"
                  "ssl_options.keyfile = %s/node.key\n"
                  "ssl_options.verify = verify_peer\n",
                  world_tls_port(world), world->directory, world->directory, world->directory);
    assert_int_equal(0, fclose(file));
    (void)snprintf(path, sizeof path, "%s/enabled_plugins", world->directory);
    file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs("[rabbitmq_shovel].\n", file);
    assert_int_equal(0, fclose(file));
}

static void client_connect(struct world *world)
{
    struct amqp_connection_info parts;
    char uri[sizeof world->uri];

    memcpy(uri, world->uri, sizeof uri);
    amqp_default_connection_info(&parts);
    assert_int_equal(AMQP_STATUS_OK, amqp_parse_url(uri, &parts));
    world->client = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(world->client);
    assert_int_equal(AMQP_STATUS_OK, amqp_socket_open(socket, parts.host, parts.port));
    amqp_rpc_reply_t reply = amqp_login(world->client, parts.vhost, 0, 131072, 0,
                                        AMQP_SASL_METHOD_PLAIN, parts.user, parts.password);
    assert_int_equal(AMQP_RESPONSE_NORMAL, reply.reply_type);
    assert_non_null(amqp_channel_open(world->client, 1));
    assert_non_null(amqp_confirm_select(world->client, 1));
}

static void client_close(struct world *world)
{
    if (world->client != NULL) {
        (void)amqp_destroy_connection(world->client);
        world->client = NULL;
    }
}

struct world *world_new(void)
{
    struct world *world = chp_alloc(sizeof *world);
    const char *given = getenv("CHEOPS_TEST_AMQP");

    (void)signal(SIGPIPE, SIG_IGN);
    world->base = event_base_new();
    if (given != NULL && given[0] != '\0') {
        (void)snprintf(world->uri, sizeof world->uri, "%s", given);
    } else {
        char port[16];
        world->port = 20000 + (int)(getpid() % 600) * 2; /* TLS: the next one */
        (void)snprintf(world->directory, sizeof world->directory, "/tmp/cheops-broker-XXXXXX");
        assert_non_null(mkdtemp(world->directory));
        (void)snprintf(world->uri, sizeof world->uri, "amqp://guest:guest@127.0.0.1:%d/%%2F",
                       world->port);
        run(world, "%s/broker-config/make-certificates %s node=localhost,127.0.0.1", source_dir(),
            world->directory);
        write_config(world);
        (void)snprintf(port, sizeof port, "%d", world->port);
        node(world, "start", port);
    }
    client_connect(world);
    return world;
}

void world_free(struct world *world)
{
    client_close(world);
    if (world->port != 0) {
        node(world, "stop", "");
        run(world, "rm -rf %s", world->directory);
    }
    event_base_free(world->base);
    free(world);
}

size_t world_unconfirmed_max(const struct world *world)
{
    (void)world;
    return UNCONFIRMED_MAX;
}

struct chp_amqp_config world_config(struct world *world)
{
    return (struct chp_amqp_config){.uri = world->uri,
                                    .site = "A",
                                    .peers = peers,
                                    .peer_count = sizeof peers / sizeof peers[0],
                                    .base = world->base,
                                    .prefetch = 500,
                                    .heartbeat_s = 20, /* a busy machine is no silent broker */
                                    .retry_min_ms = 20,
                                    .retry_max_ms = 200,
                                    .output_max_bytes = 4 * 1024 * 1024,
                                    .unconfirmed_max = UNCONFIRMED_MAX,
                                    .seed = 1};
}

struct chp_broker *world_agent(struct world *world, const struct chp_broker_callbacks *callbacks)
{
    struct chp_amqp_config config = world_config(world);
    struct chp_error error;
    struct chp_broker *broker = chp_amqp_broker_new(&config, callbacks, &error);

    assert_non_null(broker);
    return broker;
}

void world_turn(struct world *world)
{
    const struct timeval pause = {.tv_usec = 2000};

    (void)event_base_loopexit(world->base, &pause);
    (void)event_base_dispatch(world->base);
}

pid_t world_pid(const struct world *world)
{
    char path[128];
    int pid = 0;

    (void)snprintf(path, sizeof path, "%s/pid", world->directory);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(1, fscanf(file, "%d", &pid)); /* NOLINT(cert-err34-c) */
    (void)fclose(file);
    return pid;
}

int world_tls_port(const struct world *world)
{
    return world->port + 1;
}

const char *world_directory(const struct world *world)
{
    return world->directory;
}

bool world_kill(struct world *world)
{
    if (world->port == 0) {
        return false;
    }
    client_close(world);
    node(world, "kill", "");
    return true;
}

void world_start(struct world *world)
{
    char port[16];

    (void)snprintf(port, sizeof port, "%d", world->port);
    node(world, "start", port);
    client_connect(world);
}

bool world_block(struct world *world, bool blocked)
{
    if (world->port == 0) {
        return false;
    }
    node(world, "ctl",
         blocked ? "-- set_vm_memory_high_watermark 0.0000001"
                 : "-- set_vm_memory_high_watermark 0.9");
    return true;
}

void world_declare(struct world *world, const char *queue)
{
    assert_non_null(amqp_queue_declare(world->client, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0,
                                       amqp_empty_table));
}

void world_import_generated(struct world *world, char *uri, size_t uri_bytes)
{
    char path[128];

    (void)snprintf(path, sizeof path, "%s/sites.json", world->directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "{\"sites\": {\"A\": {\"listen\": \"127.0.0.1:%d\"}, \"C\": {\"shares\": \"A\"},"
                  " \"B\": {\"listen\": \"127.0.0.1:1\"}}}\n",
                  world->port);
    assert_int_equal(0, fclose(file));
    run(world, "%s/broker-config/generate %s %s/config", source_dir(), path, world->directory);
    (void)snprintf(path, sizeof path, "import_definitions %s/config/A/definitions.json",
                   world->directory);
    node(world, "ctl", path);
    /* The import goes on after the answer: 7 queues of A and of C, 3 towards B. */
    run(world,
        "for i in 1 2 3 4 5 6 7 8 9; do test $(/usr/bin/python3 %s/tests/contract/broker/node.py "
        "ctl %s"
        " list_queues name | grep -c cheops) -eq 17 && exit 0; done; exit 1",
        source_dir(), world->directory);
    run(world, "grep '\"agent\"' %s/config/A/credentials.json | cut -d'\"' -f4 > %s/uri",
        world->directory, world->directory);
    (void)snprintf(path, sizeof path, "%s/uri", world->directory);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(uri, (int)uri_bytes, file));
    uri[strcspn(uri, "\n")] = '\0';
    assert_int_equal(0, fclose(file));
}

void world_declare_with_length(struct world *world, const char *queue, int max_length)
{
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("x-max-length"),
                                .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = max_length}};

    assert_non_null(amqp_queue_declare(world->client, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0,
                                       (amqp_table_t){.num_entries = 1, .entries = &entry}));
}

void world_bind_exchange(struct world *world, const char *source, const char *destination)
{
    assert_non_null(amqp_exchange_declare(world->client, 1, amqp_cstring_bytes(source),
                                          amqp_cstring_bytes("fanout"), 0, 0, 1, 0,
                                          amqp_empty_table));
    assert_non_null(amqp_exchange_bind(world->client, 1, amqp_cstring_bytes(destination),
                                       amqp_cstring_bytes(source), amqp_cstring_bytes("operation"),
                                       amqp_empty_table));
}

void world_delete(struct world *world, const char *queue)
{
    assert_non_null(amqp_queue_delete(world->client, 1, amqp_cstring_bytes(queue), 0, 0));
}

void world_purge(struct world *world, const char *queue)
{
    assert_non_null(amqp_queue_purge(world->client, 1, amqp_cstring_bytes(queue)));
}

void world_publish(struct world *world, const char *exchange, const char *key,
                   struct chp_bytes body, const char *message_id, const char *reply_to)
{
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = AMQP_DELIVERY_PERSISTENT};
    amqp_frame_t frame;

    if (message_id != NULL) {
        properties._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
        properties.message_id = amqp_cstring_bytes(message_id);
    }
    if (reply_to != NULL) {
        properties._flags |= AMQP_BASIC_REPLY_TO_FLAG;
        properties.reply_to = amqp_cstring_bytes(reply_to);
    }
    assert_int_equal(
        AMQP_STATUS_OK,
        amqp_basic_publish(world->client, 1, amqp_cstring_bytes(exchange), amqp_cstring_bytes(key),
                           0, 0, &properties,
                           (amqp_bytes_t){.len = body.len, .bytes = (void *)(uintptr_t)body.data}));
    assert_int_equal(AMQP_STATUS_OK, amqp_simple_wait_frame(world->client, &frame));
    assert_int_equal(AMQP_BASIC_ACK_METHOD, frame.payload.method.id);
    amqp_maybe_release_buffers(world->client);
}

bool world_holds(struct world *world, const char *queue, size_t count)
{
    uint64_t start_ms = chp_clock_mono_ms();

    do {
        amqp_queue_declare_ok_t *ok = amqp_queue_declare(
            world->client, 1, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);
        assert_non_null(ok);
        if (ok->message_count == count) {
            return true;
        }
        world_turn(world);
    } while (chp_clock_mono_ms() - start_ms < HOLDS_TIMEOUT_MS);
    return false;
}
