/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The public door on the broker (design section 8): msgpack requests with reply_to and
 * correlation_id. A request is acked when it has been admitted or refused. What can't be read, or
 * has no key, is dead-lettered with the reason; whoever left a reply_to is told in any case.
 */
#include "daemon/daemon.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

/* A request whose message waits for the reply. */
struct waiting {
    struct chp_agent *agent;
    uint64_t hold;
    char *reply_to;
    char *correlation_id;
    struct chp_buf body; /* for the dead letter of what nobody else is told of */
};

static void publish(struct chp_agent *agent, const char *reply_to, const char *correlation_id,
                    const struct chp_buf *body)
{
    struct chp_publication publication = {
        .exchange = "",
        .routing_key = reply_to,
        .body = chp_buf_bytes(body),
        .correlation_id = correlation_id,
        .content_type = "application/msgpack",
    };
    if (agent->broker == NULL || chp_broker_publish(agent->broker, &publication) != 0) {
        chp_log_warn("answer not sent", CHP_S("reply_to", reply_to));
    }
}

static void tell(struct chp_agent *agent, const char *reply_to, const char *correlation_id,
                 const struct chp_reply *reply)
{
    if (reply_to != NULL && reply_to[0] != 0) {
        struct chp_buf body = {0};
        chp_reply_encode(reply, &body);
        publish(agent, reply_to, correlation_id, &body);
        chp_buf_deinit(&body);
    }
}

void door_amqp__notice(struct chp_agent *agent, const char *reply_to, const char *correlation_id,
                       const struct chp_notice *notice)
{
    struct chp_buf body = {0};
    chp_notice_encode(notice, &body);
    publish(agent, reply_to, correlation_id, &body);
    chp_buf_deinit(&body);
}

/*
 * A request whose key was known: its operation is under way or has ended, and whoever asked again
 * wants to know what came of it. All results are sent when every member has answered, from the
 * committed state.
 */
struct repetition {
    struct chp_agent *agent;
    struct chp_uuid operation;
    char *reply_to;
    char *correlation_id;
    bool asking; /* the database */
    bool again;  /* it has completed meanwhile */
};

static void repetition_free(struct repetition *repetition)
{
    watchers__remove(repetition->agent->watchers, repetition);
    repetition->agent->repetition_count--;
    free(repetition->reply_to);
    free(repetition->correlation_id);
    free(repetition);
}

static const char *text_of(json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static uint64_t number_of(json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* Output as it was: the JSON has it in base64 too when it is not UTF-8. *decoded is the caller's to
 * free. */
static struct chp_bytes output_of(json_t *site, uint8_t **decoded)
{
    const char *text = text_of(site, "output");
    const char *base64 = text_of(site, "output_base64");
    size_t len = base64 == NULL ? 0 : strlen(base64);
    if (len == 0 || len % 4 != 0) {
        return chp_bytes_of(text == NULL ? "" : text);
    }
    *decoded = chp_alloc(len);
    int bytes = EVP_DecodeBlock(*decoded, (const uint8_t *)base64, (int)len);
    int padding = (base64[len - 1] == '=') + (base64[len - 2] == '=');
    return bytes < padding ? chp_bytes_of(text) : chp_bytes(*decoded, (size_t)(bytes - padding));
}

static void tell_site(const struct repetition *repetition, json_t *operation, json_t *site)
{
    uint8_t *decoded = NULL;
    size_t count = json_array_size(json_object_get(operation, "members"));
    struct chp_notice notice = {
        .operation = repetition->operation,
        .resource = text_of(operation, "resource"),
        .answered = count,
        .member_count = count,
        .elapsed_ms = number_of(site, "elapsed_ms"),
        .ack = {.operation = repetition->operation,
                .resource = text_of(operation, "resource"),
                .site = text_of(site, "site"),
                .run = (uint32_t)number_of(site, "run"),
                .exit_code = (int32_t)json_integer_value(json_object_get(site, "exit_code")),
                .reason = text_of(site, "reason"),
                .output = output_of(site, &decoded),
                .output_cut = json_is_true(json_object_get(site, "output_cut")),
                .unverified = json_is_true(json_object_get(site, "unverified")),
                .duration_ms = number_of(site, "duration_ms")},
    };
    if (chp_state_parse(text_of(site, "state"), &notice.ack.state) == 0) {
        door_amqp__notice(repetition->agent, repetition->reply_to, repetition->correlation_id,
                          &notice);
    }
    free(decoded);
}

static void tell_all(const struct repetition *repetition, json_t *operation)
{
    size_t index;
    json_t *site;
    size_t count = json_array_size(json_object_get(operation, "members"));
    json_array_foreach(json_object_get(operation, "sites"), index, site)
    {
        tell_site(repetition, operation, site);
    }
    struct chp_notice notice = {
        .operation = repetition->operation,
        .resource = text_of(operation, "resource"),
        .completed = true,
        .failed = strcmp(text_of(operation, "state"), "done") != 0,
        .answered = count,
        .member_count = count,
    };
    door_amqp__notice(repetition->agent, repetition->reply_to, repetition->correlation_id, &notice);
}

static void repetition_ask(struct repetition *repetition);

static void repetition_on_operation(void *user, int code, const char *json,
                                    const struct chp_error *error)
{
    struct repetition *repetition = user;
    json_t *operation = json == NULL ? NULL : json_loads(json, 0, NULL);
    bool completed = json_is_true(json_object_get(operation, "completed"));
    (void)error;
    if (completed) {
        tell_all(repetition, operation);
    }
    json_decref(operation);
    repetition->asking = false;
    if (!completed && code == 0 && repetition->again) {
        repetition_ask(repetition);
    } else if (completed || code != 0 || json == NULL) {
        repetition_free(repetition); /* on an error the client asks again */
    }
}

static void repetition_ask(struct repetition *repetition)
{
    char id[CHP_UUID_TEXT_BYTES];
    const char *params[] = {id};
    repetition->asking = true;
    repetition->again = false;
    chp_uuid_format(&repetition->operation, id);
    agent_port__vtable.query(repetition->agent, CHP_QUERY_OPERATION, params, 1,
                             repetition_on_operation, repetition);
}

static void repetition_on_notice(void *user, const struct chp_notice *notice)
{
    struct repetition *repetition = user;
    repetition->again = notice->completed;
    if (notice->completed && !repetition->asking) {
        repetition_ask(repetition);
    }
}

static void follow_repetition(const struct waiting *waiting, const struct chp_uuid *operation)
{
    if (waiting->agent->repetition_count >= CHP_REPETITIONS_MAX) {
        chp_log_warn("a repeated request is not followed: too many are",
                     CHP_I("max", CHP_REPETITIONS_MAX));
        return; /* its client asks again */
    }
    struct repetition *repetition = chp_alloc(sizeof *repetition);
    repetition->agent = waiting->agent;
    repetition->agent->repetition_count++;
    repetition->operation = *operation;
    repetition->reply_to = chp_strdup(waiting->reply_to);
    repetition->correlation_id = chp_strdup(waiting->correlation_id);
    watchers__add(repetition->agent->watchers, operation, repetition_on_notice, repetition);
    repetition_ask(repetition);
}

static void waiting_free(struct waiting *waiting)
{
    chp_buf_deinit(&waiting->body);
    free(waiting->reply_to);
    free(waiting->correlation_id);
    free(waiting);
}

static void door_on_reply(void *user, const struct chp_reply *reply)
{
    struct waiting *waiting = user;
    struct chp_agent *agent = waiting->agent;
    if (reply->code == CHP_ECANCELED) { /* its message has gone back: it comes again */
        waiting_free(waiting);
        return;
    }
    tell(agent, waiting->reply_to, waiting->correlation_id, reply);
    if (reply->code != 0 && waiting->reply_to == NULL) {
        inbound__dead_item(agent->inbound, waiting->hold, reply->error,
                           chp_buf_bytes(&waiting->body));
    }
    if (reply->code == 0 && reply->duplicate && waiting->reply_to != NULL) {
        follow_repetition(waiting, &reply->id);
    }
    inbound__settle(agent->inbound, waiting->hold);
    waiting_free(waiting);
}

static int read_request(const struct chp_delivery *delivery, struct chp_arena *arena,
                        struct chp_bytes body, struct chp_request *request, struct chp_error *error)
{
    if (strncmp(delivery->reply_to, "cheops.", strlen("cheops.")) == 0) {
        return chp_error_set(error, CHP_EREFUSED,
                             "reply_to \"%.100s\" names a queue of Cheops: use one of your own",
                             delivery->reply_to);
    }
    int code = chp_request_decode(body, arena, request, error);
    if (code != 0) {
        return code;
    }
    if (request->key == NULL && delivery->message_id[0] != 0) {
        request->key = chp_arena_strdup(arena, delivery->message_id);
    }
    if (request->key == NULL) {
        return chp_error_set(error, CHP_EREFUSED,
                             "no key: give the field \"key\" or the property message_id, so that a "
                             "repetition can be told from a new request");
    }
    return 0;
}

void door_amqp__on_request(struct chp_agent *agent, const struct chp_delivery *delivery,
                           struct chp_arena *arena, struct chp_bytes body, uint64_t hold)
{
    struct chp_request request = {0};
    struct chp_error error = {0};
    int code = read_request(delivery, arena, body, &request, &error);
    if (code != 0) {
        struct chp_reply reply = {.code = code, .error = error.text};
        if (strncmp(delivery->reply_to, "cheops.", strlen("cheops.")) != 0) {
            tell(agent, delivery->reply_to, delivery->correlation_id, &reply);
        }
        inbound__dead_item(agent->inbound, hold, error.text, body);
        inbound__settle(agent->inbound, hold);
        return;
    }
    struct waiting *waiting = chp_alloc(sizeof *waiting);
    waiting->agent = agent;
    waiting->hold = hold;
    waiting->reply_to = delivery->reply_to[0] == 0 ? NULL : chp_strdup(delivery->reply_to);
    waiting->correlation_id = chp_strdup(delivery->correlation_id);
    chp_buf_add(&waiting->body, body.data, body.len);
    request.id = chp_uuid_new();
    request.principal = "amqp";
    request.key_given = true;
    request.reply_to = waiting->reply_to;
    request.correlation_id = waiting->correlation_id;
    submit__request(agent, &request, true, door_on_reply, waiting);
}
