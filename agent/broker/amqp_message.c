/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Everything is copied at once, so that the codec's memory is free after each frame and a message
 * of any size costs no more than the part that is kept.
 */
#include "broker/amqp_message.h"

#include <string.h>

void broker__message_deinit(struct broker__message *message)
{
    chp_arena_deinit(&message->arena);
    chp_buf_deinit(&message->body);
}

static const char *copy(struct broker__message *message, amqp_bytes_t bytes)
{
    struct chp_buf text = {0};

    if (chp_utf8_valid(bytes.bytes, bytes.len)) {
        return chp_arena_strndup(&message->arena, bytes.bytes, bytes.len);
    }
    chp_buf_add_utf8_lossy(&text, bytes.bytes, bytes.len);
    const char *copied = chp_arena_strndup(&message->arena, text.data, text.len);
    chp_buf_deinit(&text);
    return copied;
}

static int begin(struct broker__message *message, const amqp_frame_t *frame,
                 struct chp_error *error)
{
    if (message->method != 0) {
        return chp_error_set(error, CHP_EMALFORMED,
                             "the broker began a message before the one before it was whole");
    }
    struct chp_buf body = message->body;
    chp_arena_deinit(&message->arena);
    chp_buf_clear(&body);
    *message = (struct broker__message){.method = frame->payload.method.id,
                                        .channel = frame->channel,
                                        .consumer_tag = "",
                                        .reply_to = "",
                                        .correlation_id = "",
                                        .message_id = "",
                                        .content_type = "",
                                        .dead_reason = "",
                                        .dead_queue = "",
                                        .body = body};
    if (message->method == AMQP_BASIC_DELIVER_METHOD) {
        const amqp_basic_deliver_t *deliver = frame->payload.method.decoded;
        message->consumer_tag = copy(message, deliver->consumer_tag);
        message->delivery_tag = deliver->delivery_tag;
        message->redelivered = deliver->redelivered != 0;
        message->exchange = copy(message, deliver->exchange);
        message->routing_key = copy(message, deliver->routing_key);
    } else if (message->method == AMQP_BASIC_GET_OK_METHOD) {
        const amqp_basic_get_ok_t *got = frame->payload.method.decoded;
        message->delivery_tag = got->delivery_tag;
        message->redelivered = got->redelivered != 0;
        message->exchange = copy(message, got->exchange);
        message->routing_key = copy(message, got->routing_key);
    } else {
        CHP_ASSERT(message->method == AMQP_BASIC_RETURN_METHOD);
        const amqp_basic_return_t *returned = frame->payload.method.decoded;
        message->exchange = copy(message, returned->exchange);
        message->routing_key = copy(message, returned->routing_key);
    }
    return 0;
}

static bool is_named(const amqp_table_entry_t *entry, const char *name)
{
    return entry->key.len == strlen(name) && memcmp(entry->key.bytes, name, entry->key.len) == 0;
}

static void read_headers(struct broker__message *message, const amqp_table_t *headers)
{
    for (int i = 0; i < headers->num_entries; i++) {
        const amqp_table_entry_t *entry = &headers->entries[i];
        bool is_text = entry->value.kind == AMQP_FIELD_KIND_UTF8;
        bool is_number = entry->value.kind == AMQP_FIELD_KIND_I64 && entry->value.value.i64 > 0;
        if (is_text && is_named(entry, BROKER_HEADER_REASON)) {
            message->dead_reason = copy(message, entry->value.value.bytes);
        } else if (is_text && is_named(entry, BROKER_HEADER_QUEUE)) {
            message->dead_queue = copy(message, entry->value.value.bytes);
        } else if (is_number && is_named(entry, BROKER_HEADER_AT)) {
            message->dead_at_ms = (uint64_t)entry->value.value.i64;
        } else if (is_number && is_named(entry, BROKER_HEADER_NUMBER)) {
            message->number = (uint64_t)entry->value.value.i64;
        } else if (is_named(entry, "x-death")) {
            message->dead_lettered_by_broker = true;
        }
    }
}

static int header(struct broker__message *message, const amqp_frame_t *frame,
                  struct chp_error *error)
{
    const amqp_basic_properties_t *properties = frame->payload.properties.decoded;

    if (message->method == 0 || message->has_header ||
        frame->payload.properties.class_id != AMQP_BASIC_CLASS) {
        return chp_error_set(error, CHP_EMALFORMED,
                             "the broker sent a content header that belongs to no message");
    }
    message->has_header = true;
    message->body_bytes = frame->payload.properties.body_size;
    if ((properties->_flags & AMQP_BASIC_REPLY_TO_FLAG) != 0) {
        message->reply_to = copy(message, properties->reply_to);
    }
    if ((properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) != 0) {
        message->correlation_id = copy(message, properties->correlation_id);
    }
    if ((properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) != 0) {
        message->message_id = copy(message, properties->message_id);
    }
    if ((properties->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG) != 0) {
        message->content_type = copy(message, properties->content_type);
    }
    if ((properties->_flags & AMQP_BASIC_TIMESTAMP_FLAG) != 0) {
        message->timestamp_s = properties->timestamp;
    }
    if ((properties->_flags & AMQP_BASIC_HEADERS_FLAG) != 0) {
        read_headers(message, &properties->headers);
    }
    return 0;
}

static int body(struct broker__message *message, const amqp_frame_t *frame, struct chp_error *error)
{
    const amqp_bytes_t piece = frame->payload.body_fragment;
    const size_t keep_max =
        message->body_bytes > CHP_MESSAGE_MAX_BYTES ? BROKER_CUT_BYTES : message->body_bytes;

    if (!message->has_header || piece.len > message->body_bytes - message->received_bytes) {
        return chp_error_set(error, CHP_EMALFORMED,
                             "the broker sent more of a message's body than it announced");
    }
    message->received_bytes += piece.len;
    size_t room = keep_max - message->body.len;
    chp_buf_add(&message->body, piece.bytes, piece.len < room ? piece.len : room);
    return 0;
}

int broker__message_feed(struct broker__message *message, const amqp_frame_t *frame, bool *complete,
                         struct chp_error *error)
{
    int code;

    if (frame->frame_type == AMQP_FRAME_METHOD) {
        code = begin(message, frame, error);
    } else if (frame->frame_type == AMQP_FRAME_HEADER) {
        code = header(message, frame, error);
    } else {
        CHP_ASSERT(frame->frame_type == AMQP_FRAME_BODY);
        code = body(message, frame, error);
    }
    *complete = code == 0 && message->has_header && message->received_bytes == message->body_bytes;
    return code;
}

void broker__message_done(struct broker__message *message)
{
    message->method = 0;
    message->has_header = false;
}
