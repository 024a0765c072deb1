/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * AMQP 0-9-1 frames <-> evbuffers. librabbitmq is used as a codec only: none of its calls that
 * would wait for a socket.
 */
#ifndef CHP_BROKER_AMQP_CODEC_H
#define CHP_BROKER_AMQP_CODEC_H

#include "base/buf.h"

#if defined(__has_include) && __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#endif
#include <event2/buffer.h>

enum {
    BROKER_FRAME_MAX_BYTES = 131072,
    BROKER_FRAME_MIN_BYTES = 4096, /* what AMQP obliges a peer to accept */
    BROKER_CHANNEL_MAX = 2,        /* 1: work, 2: dead letters */
};

struct broker__codec {
    amqp_connection_state_t decoder;
    uint32_t frame_max;
};

/* One decoded frame, valid during the call. Returns false to stop reading. */
typedef bool broker__frame_fn(void *user, const amqp_frame_t *frame);

void broker__codec_init(struct broker__codec *codec);
/* Safe on a zeroed one. */
void broker__codec_deinit(struct broker__codec *codec);
/* After connection.tune. frame_max is at least BROKER_FRAME_MIN_BYTES and at most
 * BROKER_FRAME_MAX_BYTES. */
void broker__codec_tune(struct broker__codec *codec, uint32_t frame_max);
/* Drains what is decoded. CHP_EMALFORMED: these bytes are not AMQP 0-9-1, or use a channel that was
 * never opened; the codec cannot go on. Memory held between calls is bounded by frame_max. */
int broker__codec_read(struct broker__codec *codec, struct evbuffer *in, broker__frame_fn *on_frame,
                       void *user, struct chp_error *error) CHP_MUST_CHECK;

void broker__codec_put_protocol(struct evbuffer *out);
void broker__codec_put_heartbeat(struct evbuffer *out);
/* method: the struct of amqp_framing.h that belongs to id. CHP_EINVAL, and nothing written, when a
 * text is too long. */
int broker__codec_put_method(struct evbuffer *out, uint16_t channel, amqp_method_number_t id,
                             void *method) CHP_MUST_CHECK;
/* basic.publish with its content. CHP_EINVAL, and nothing written, when a text is too long. */
int broker__codec_put_publish(const struct broker__codec *codec, struct evbuffer *out,
                              uint16_t channel, amqp_basic_publish_t *publish,
                              amqp_basic_properties_t *properties,
                              struct chp_bytes body) CHP_MUST_CHECK;

static inline amqp_bytes_t broker__text(const char *text)
{
    return amqp_cstring_bytes(text);
}

#endif
