/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Why librabbitmq is a codec only: its publish and every call that waits for a reply block without
 * limit (while a broker alarm lasts, for instance), which a single loop cannot afford. Its decoder
 * and encoders do no I/O. Rejected: its sockets behind guards (connecting would still block), and a
 * thread for it.
 *
 * Each frame is encoded whole before a byte of it is written, so that an error never leaves half a
 * frame.
 */
#include "broker/amqp_codec.h"

#include <string.h>

enum {
    HEADER_BYTES = 7,
    FOOTER_BYTES = 1,
    METHOD_MAX_BYTES =
        4096, /* a method here is a few short strings (255 bytes each) and a small table */
    CONTENT_PREFIX_BYTES = 12,
    PROPERTIES_MAX_BYTES = 4096,
    /* A server that speaks another version answers with its own "AMQP" header; the decoder makes it
       a frame. */
    FRAME_PROTOCOL_HEADER = 'A',
};

void broker__codec_init(struct broker__codec *codec)
{
    codec->decoder = amqp_new_connection();
    CHP_ASSERT(codec->decoder != NULL);
    codec->frame_max = BROKER_FRAME_MIN_BYTES; /* until connection.tune */
}

void broker__codec_deinit(struct broker__codec *codec)
{
    if (codec->decoder != NULL) {
        (void)amqp_destroy_connection(codec->decoder);
        codec->decoder = NULL;
    }
}

void broker__codec_tune(struct broker__codec *codec, uint32_t frame_max)
{
    CHP_ASSERT(frame_max >= BROKER_FRAME_MIN_BYTES);
    CHP_ASSERT(frame_max <= BROKER_FRAME_MAX_BYTES);
    codec->frame_max = frame_max;
    int status = amqp_tune_connection(codec->decoder, BROKER_CHANNEL_MAX, (int)frame_max, 0);
    CHP_ASSERT(status == AMQP_STATUS_OK);
}

static int check_frame(const amqp_frame_t *frame, struct chp_error *error)
{
    if (frame->frame_type == FRAME_PROTOCOL_HEADER) {
        return chp_error_set(error, CHP_EVERSION,
                             "the broker speaks another version of AMQP; 0-9-1 is needed");
    }
    if (frame->channel > BROKER_CHANNEL_MAX) {
        return chp_error_set(error, CHP_EMALFORMED,
                             "the broker used channel %u, which was never opened",
                             (unsigned)frame->channel);
    }
    return 0;
}

int broker__codec_read(struct broker__codec *codec, struct evbuffer *in, broker__frame_fn *on_frame,
                       void *user, struct chp_error *error)
{
    size_t available;

    while ((available = evbuffer_get_contiguous_space(in)) > 0) {
        unsigned char *bytes = evbuffer_pullup(in, (ev_ssize_t)available);
        size_t used = 0;
        while (used < available) {
            amqp_frame_t frame;
            int status = amqp_handle_input(
                codec->decoder, (amqp_bytes_t){.len = available - used, .bytes = bytes + used},
                &frame);
            if (status < 0) {
                return chp_error_set(error, CHP_EMALFORMED,
                                     "the broker sent bytes that are not AMQP 0-9-1: %s",
                                     amqp_error_string2(status));
            }
            CHP_ASSERT((size_t)status <= available - used);
            used += (size_t)status;
            if (frame.frame_type == 0) {
                continue; /* needs more bytes */
            }
            int code = check_frame(&frame, error);
            if (code != 0) {
                return code;
            }
            bool more = on_frame(user, &frame);
            /* Whoever needs something of the frame has copied it. */
            amqp_maybe_release_buffers_on_channel(codec->decoder, frame.channel);
            if (!more) {
                (void)evbuffer_drain(in, used);
                return 0;
            }
        }
        (void)evbuffer_drain(in, available);
    }
    return 0;
}

static void put_u32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

static void put_frame(struct evbuffer *out, uint8_t type, uint16_t channel, const void *payload,
                      size_t len)
{
    uint8_t header[HEADER_BYTES] = {type, (uint8_t)(channel >> 8), (uint8_t)channel};
    const uint8_t end = AMQP_FRAME_END;

    put_u32(header + 3, (uint32_t)len);
    (void)evbuffer_add(out, header, sizeof header);
    (void)evbuffer_add(out, payload, len);
    (void)evbuffer_add(out, &end, sizeof end);
}

void broker__codec_put_protocol(struct evbuffer *out)
{
    (void)evbuffer_add(out, "AMQP\0\0\x09\x01", 8);
}

void broker__codec_put_heartbeat(struct evbuffer *out)
{
    put_frame(out, AMQP_FRAME_HEARTBEAT, 0, "", 0);
}

/* Bytes written to at most METHOD_MAX_BYTES, or CHP_EINVAL. */
static int encode_method(amqp_method_number_t id, void *method, uint8_t *into)
{
    put_u32(into, id);
    int len = amqp_encode_method(id, method,
                                 (amqp_bytes_t){.len = METHOD_MAX_BYTES - 4, .bytes = into + 4});
    return len < 0 ? CHP_EINVAL : len + 4;
}

int broker__codec_put_method(struct evbuffer *out, uint16_t channel, amqp_method_number_t id,
                             void *method)
{
    uint8_t bytes[METHOD_MAX_BYTES];
    int len = encode_method(id, method, bytes);

    if (len < 0) {
        return len;
    }
    put_frame(out, AMQP_FRAME_METHOD, channel, bytes, (size_t)len);
    return 0;
}

int broker__codec_put_publish(const struct broker__codec *codec, struct evbuffer *out,
                              uint16_t channel, amqp_basic_publish_t *publish,
                              amqp_basic_properties_t *properties, struct chp_bytes body)
{
    uint8_t method[METHOD_MAX_BYTES];
    uint8_t content[CONTENT_PREFIX_BYTES + PROPERTIES_MAX_BYTES] = {0};
    const size_t piece_max = codec->frame_max - HEADER_BYTES - FOOTER_BYTES;

    int method_len = encode_method(AMQP_BASIC_PUBLISH_METHOD, publish, method);
    int content_len = amqp_encode_properties(
        AMQP_BASIC_CLASS, properties,
        (amqp_bytes_t){.len = PROPERTIES_MAX_BYTES, .bytes = content + CONTENT_PREFIX_BYTES});
    if (method_len < 0 || content_len < 0 ||
        (size_t)content_len + CONTENT_PREFIX_BYTES > piece_max) {
        return CHP_EINVAL;
    }
    content[1] = AMQP_BASIC_CLASS;
    put_u32(content + 4, (uint32_t)((uint64_t)body.len >> 32));
    put_u32(content + 8, (uint32_t)body.len);

    put_frame(out, AMQP_FRAME_METHOD, channel, method, (size_t)method_len);
    put_frame(out, AMQP_FRAME_HEADER, channel, content, (size_t)content_len + CONTENT_PREFIX_BYTES);
    for (size_t at = 0; at < body.len; at += piece_max) {
        size_t left = body.len - at;
        put_frame(out, AMQP_FRAME_BODY, channel, body.data + at,
                  left < piece_max ? left : piece_max);
    }
    return 0;
}
