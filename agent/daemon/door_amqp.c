/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The public door on the broker (design section 8): msgpack requests with reply_to and
 * correlation_id. A request is acked when it has been admitted, with what its client is told of it
 * as rows (replies.c), or when the broker has its refusal. What can't be read, or has no key, is
 * dead-lettered with the reason; whoever left a reply_to is told in any case.
 */
#include "daemon/daemon.h"

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

/* Whoever asked is told before the request is acked. */
static void refuse(struct chp_agent *agent, uint64_t hold, const char *reply_to,
                   const char *correlation_id, const struct chp_reply *reply)
{
    struct chp_buf body = {0};
    CHP_ASSERT(reply->code != 0);
    chp_reply_encode(reply, &body);
    inbound__answer(agent->inbound, hold, reply_to, correlation_id, chp_buf_bytes(&body));
    chp_buf_deinit(&body);
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
    if (reply->code != 0 && waiting->reply_to != NULL) {
        refuse(agent, waiting->hold, waiting->reply_to, waiting->correlation_id, reply);
    } else if (reply->code != 0) {
        inbound__dead_item(agent->inbound, waiting->hold, reply->error,
                           chp_buf_bytes(&waiting->body));
    }
    inbound__settle(agent->inbound, waiting->hold);
    waiting_free(waiting);
}

static bool is_ours(const char *reply_to)
{
    return strncmp(reply_to, "cheops.", strlen("cheops.")) == 0;
}

static int read_request(const struct chp_delivery *delivery, struct chp_arena *arena,
                        struct chp_bytes body, struct chp_request *request, struct chp_error *error)
{
    if (is_ours(delivery->reply_to)) {
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
        if (delivery->reply_to[0] != 0 && !is_ours(delivery->reply_to)) {
            refuse(agent, hold, delivery->reply_to, delivery->correlation_id, &reply);
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
