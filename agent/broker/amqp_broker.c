/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The port's vtable over the publishing and the consuming connection. Up means both are ready; what
 * one of them loses is told once, and again only when the reason changes, so that a broker that is
 * away is one line and not thousands.
 */
#include "broker/amqp_broker.h"

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/amqp_consume.h"
#include "broker/amqp_dead.h"
#include "broker/amqp_publish.h"
#include "broker/amqp_tls.h"

#include <event2/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct amqp_broker {
    struct chp_broker port;
    struct chp_broker_callbacks callbacks;
    struct chp_arena arena; /* copies of the configuration */
    struct broker__target target;
    struct broker__topology topology;
    struct broker__publisher publisher;
    struct broker__consumer consumer;
    bool up;
    struct chp_error told; /* the reason given last, while not up */
};

static struct amqp_broker *of(struct chp_broker *broker)
{
    return CHP_CONTAINER(broker, struct amqp_broker, port);
}

static void broker_on_up(void *user)
{
    struct amqp_broker *broker = user;

    if (broker__connection_ready(&broker->publisher.connection) &&
        broker__connection_ready(&broker->consumer.connection)) {
        CHP_ASSERT(!broker->up);
        broker->up = true;
        broker->told = (struct chp_error){0};
        chp_log_info("broker connected", CHP_S("user", broker->target.user));
        broker->callbacks.on_up(broker->callbacks.user);
    }
}

static void broker_on_down(void *user, bool was_ready, const struct chp_error *error)
{
    struct amqp_broker *broker = user;

    (void)was_ready;
    if (broker->up || strcmp(broker->told.text, error->text) != 0) {
        broker->up = false;
        broker->told = *error;
        /* What is in flight is settled before the user hears of the loss, whichever connection it
         * was. */
        if (broker__connection_ready(&broker->publisher.connection)) {
            broker__connection_fail(&broker->publisher.connection, error);
        }
        chp_log_warn("no connection to the broker", CHP_S("error", error->text));
        broker->callbacks.on_down(broker->callbacks.user, error);
    }
}

static void broker_on_settled(void *user, uint64_t token, bool requeue, enum chp_outcome outcome)
{
    struct amqp_broker *broker = user;

    if (requeue) {
        broker__dead_on_settled(&broker->consumer.dead, outcome);
    } else {
        broker->callbacks.on_settled(broker->callbacks.user, token, outcome);
    }
}

static void broker_on_blocked(void *user, bool blocked, const char *reason)
{
    struct amqp_broker *broker = user;

    chp_log_warn("broker alarm", CHP_S("state", blocked ? "blocked" : "over"),
                 CHP_S("reason", reason));
    broker->callbacks.on_blocked(broker->callbacks.user, blocked, reason);
}

static void broker_on_drained(void *user)
{
    struct amqp_broker *broker = user;

    broker->callbacks.on_drained(broker->callbacks.user);
}

static void broker_on_delivery(void *user, const struct chp_delivery *delivery)
{
    struct amqp_broker *broker = user;

    broker->callbacks.on_delivery(broker->callbacks.user, delivery);
}

static int broker_publish(struct chp_broker *port, const struct chp_publication *publication)
{
    struct broker__publication what = {.what = *publication};

    return broker__publisher_send(&of(port)->publisher, &what);
}

static void broker_ack(struct chp_broker *port, uint64_t tag)
{
    broker__consumer_ack(&of(port)->consumer, tag);
}

static void broker_pause(struct chp_broker *port, bool paused)
{
    broker__consumer_pause(&of(port)->consumer, paused);
}

static void broker_hold(struct chp_broker *port, bool held)
{
    broker__connection_hold(&of(port)->consumer.connection, held);
}

static void broker_dead(struct chp_broker *port, enum chp_dead_action action, const char *id,
                        chp_dead_fn *on_done, void *user)
{
    struct broker__consumer *consumer = &of(port)->consumer;
    struct chp_error error;

    if (consumer->connection.held) { /* the answers come on the connection that is not read */
        int code = chp_error_set(&error, CHP_EBUSY,
                                 "dead letters cannot be looked at now: this site has as many "
                                 "messages in its hands as it may");
        on_done(user, code, NULL, 0, &error);
        return;
    }
    broker__dead_start(&consumer->dead, action, id, on_done, user);
}

static bool broker_up(const struct chp_broker *port)
{
    return CHP_CONTAINER((struct chp_broker *)(uintptr_t)port, struct amqp_broker, port)->up;
}

static void broker_free(struct chp_broker *port)
{
    struct amqp_broker *broker = of(port);

    broker__consumer_deinit(&broker->consumer);
    broker__publisher_deinit(&broker->publisher);
    SSL_CTX_free(broker->target.tls);
    explicit_bzero((void *)(uintptr_t)broker->target.password, strlen(broker->target.password));
    chp_arena_deinit(&broker->arena);
    free(broker);
}

static const struct chp_broker_vtable vtable = {.publish = broker_publish,
                                                .ack = broker_ack,
                                                .pause = broker_pause,
                                                .hold = broker_hold,
                                                .dead = broker_dead,
                                                .up = broker_up,
                                                .free = broker_free};

/* Fills the target from the URI. The messages never quote it: it holds the password. */
static int parse_uri(struct chp_arena *arena, const char *uri, struct broker__target *target,
                     bool *tls, struct chp_error *error)
{
    struct amqp_connection_info parts;
    char endpoint[300];
    char *text = chp_arena_strdup(arena, uri); /* the parts point into it */
    int len = sizeof target->address;

    amqp_default_connection_info(&parts);
    if (amqp_parse_url(text, &parts) != AMQP_STATUS_OK) {
        return chp_error_set(error, CHP_EINVAL,
                             "the broker's uri is not amqp[s]://user:password@address:port/vhost");
    }
    if (strlen(parts.user) > 255 || strlen(parts.password) > 255 || strlen(parts.vhost) > 255) {
        return chp_error_set(error, CHP_ETOOBIG,
                             "user, password and vhost of the broker's uri have at most 255 bytes");
    }
    const char *host = strcmp(parts.host, "localhost") == 0 ? "127.0.0.1" : parts.host;
    (void)snprintf(endpoint, sizeof endpoint, strchr(host, ':') != NULL ? "[%s]:%d" : "%s:%d", host,
                   parts.port);
    if (evutil_parse_sockaddr_port(endpoint, (struct sockaddr *)&target->address, &len) != 0) {
        return chp_error_set(error, CHP_EINVAL,
                             "the broker's uri names the host '%.100s'; an address or localhost is "
                             "needed, since looking up names would block the agent",
                             parts.host);
    }
    target->address_len = len;
    target->user = parts.user;
    target->password = parts.password;
    target->vhost = parts.vhost;
    target->server_name = parts.host;
    *tls = parts.ssl != 0;
    return 0;
}

static int configure(struct amqp_broker *broker, const struct chp_amqp_config *config,
                     struct chp_error *error)
{
    struct broker__target *target = &broker->target;
    bool tls = false;

    CHP_ASSERT(config->output_max_bytes > 0);
    CHP_ASSERT(config->retry_min_ms > 0 && config->retry_min_ms <= config->retry_max_ms);
    int code = parse_uri(&broker->arena, config->uri, target, &tls, error);
    if (code != 0) {
        return code;
    }
    if (config->server_name != NULL) {
        target->server_name = chp_arena_strdup(&broker->arena, config->server_name);
    }
    if (tls) {
        target->tls =
            broker__tls_context(config->ca_file, config->cert_file, config->key_file, error);
        if (target->tls == NULL) {
            return CHP_EINVAL;
        }
    }
    target->product = chp_arena_printf(&broker->arena, "cheops-agent %s", config->site);
    target->heartbeat_s = config->heartbeat_s;
    target->retry_min_ms = config->retry_min_ms;
    target->retry_max_ms = config->retry_max_ms;
    target->output_max_bytes = config->output_max_bytes;

    struct chp_amqp_peer *peers =
        chp_arena_calloc(&broker->arena, config->peer_count, sizeof peers[0]);
    for (size_t i = 0; i < config->peer_count; i++) {
        peers[i].site = chp_arena_strdup(&broker->arena, config->peers[i].site);
        peers[i].local = config->peers[i].local;
    }
    broker->topology =
        (struct broker__topology){.site = chp_arena_strdup(&broker->arena, config->site),
                                  .peers = peers,
                                  .peer_count = config->peer_count};
    return 0;
}

static void connect_both(struct amqp_broker *broker, const struct chp_amqp_config *config)
{
    broker->publisher = (struct broker__publisher){.topology = &broker->topology,
                                                   .output_max_bytes = config->output_max_bytes,
                                                   .unconfirmed_max = config->unconfirmed_max,
                                                   .user = broker,
                                                   .on_up = broker_on_up,
                                                   .on_down = broker_on_down,
                                                   .on_settled = broker_on_settled,
                                                   .on_blocked = broker_on_blocked,
                                                   .on_drained = broker_on_drained};
    broker->consumer =
        (struct broker__consumer){.topology = &broker->topology,
                                  .dead = {.connection = &broker->consumer.connection,
                                           .publisher = &broker->publisher,
                                           .site = broker->topology.site},
                                  .prefetch = config->prefetch,
                                  .user = broker,
                                  .on_up = broker_on_up,
                                  .on_down = broker_on_down,
                                  .on_delivery = broker_on_delivery};
    broker__publisher_init(&broker->publisher, config->base, &broker->target, config->seed);
    broker__consumer_init(&broker->consumer, config->base, &broker->target, ~config->seed);
}

struct chp_broker *chp_amqp_broker_new(const struct chp_amqp_config *config,
                                       const struct chp_broker_callbacks *callbacks,
                                       struct chp_error *error)
{
    struct amqp_broker *broker = chp_alloc(sizeof *broker);

    broker->port.vtable = &vtable;
    broker->callbacks = *callbacks;
    if (configure(broker, config, error) != 0) {
        chp_arena_deinit(&broker->arena);
        free(broker);
        return NULL;
    }
    connect_both(broker, config);
    return &broker->port;
}
