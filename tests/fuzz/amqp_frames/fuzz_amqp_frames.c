/* SPDX-License-Identifier: AGPL-3.0-only */
/* What a broker may send, in two pieces: the first byte says where it is cut. */
#include "broker/amqp_message.h"

#include <string.h>

struct reader {
    struct broker__message messages[BROKER_CHANNEL_MAX + 1];
};

static bool reader_on_frame(void *user, const amqp_frame_t *frame)
{
    struct reader *reader = user;
    struct broker__message *message = &reader->messages[frame->channel];
    struct chp_error error;
    bool complete;

    if (frame->frame_type == AMQP_FRAME_METHOD) {
        amqp_method_number_t id = frame->payload.method.id;
        if (id != AMQP_BASIC_DELIVER_METHOD && id != AMQP_BASIC_GET_OK_METHOD &&
            id != AMQP_BASIC_RETURN_METHOD) {
            return true;
        }
    } else if (frame->frame_type == AMQP_FRAME_HEARTBEAT) {
        return true;
    }
    if (broker__message_feed(message, frame, &complete, &error) != 0) {
        return false;
    }
    if (complete) {
        CHP_ASSERT(message->body.len <= CHP_MESSAGE_MAX_BYTES);
        CHP_ASSERT(chp_utf8_valid(message->reply_to, strlen(message->reply_to)));
        broker__message_done(message);
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader reader = {0};
    struct broker__codec codec = {0};
    struct evbuffer *in = evbuffer_new();
    struct chp_error error;

    if (size > 0) {
        size_t cut = data[0] < size ? data[0] : size - 1;
        broker__codec_init(&codec);
        (void)evbuffer_add(in, data + 1, cut);
        if (broker__codec_read(&codec, in, reader_on_frame, &reader, &error) == 0) {
            (void)evbuffer_add(in, data + 1 + cut, size - 1 - cut);
            (void)!broker__codec_read(&codec, in, reader_on_frame, &reader, &error);
        }
        broker__codec_deinit(&codec);
    }
    for (size_t i = 0; i <= BROKER_CHANNEL_MAX; i++) {
        broker__message_deinit(&reader.messages[i]);
    }
    evbuffer_free(in);
    return 0;
}
