/* SPDX-License-Identifier: AGPL-3.0-only */
#include "broker/amqp_broker.h"
#include "broker/amqp_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct reader {
    struct broker__codec codec;
    struct broker__message message;
    unsigned frames;
    unsigned messages;
    int code;
    char routing_key[64];
    char message_id[64];
    uint64_t number;
    size_t body_bytes;
    size_t kept_bytes;
    struct chp_error error;
};

/* The decoder takes a published message as a broker would see it; here basic.publish stands for
 * basic.deliver. */
static bool reader_on_frame(void *user, const amqp_frame_t *frame)
{
    struct reader *reader = user;
    bool complete = false;

    reader->frames++;
    if (frame->frame_type == AMQP_FRAME_HEARTBEAT) {
        return true;
    }
    reader->code = broker__message_feed(&reader->message, frame, &complete, &reader->error);
    if (complete) {
        reader->messages++;
        (void)snprintf(reader->routing_key, 64, "%s", reader->message.routing_key);
        (void)snprintf(reader->message_id, 64, "%s", reader->message.message_id);
        reader->number = reader->message.number;
        reader->body_bytes = reader->message.body_bytes;
        reader->kept_bytes = reader->message.body.len;
        broker__message_done(&reader->message);
    }
    return reader->code == 0;
}

static void reader_init(struct reader *reader)
{
    *reader = (struct reader){0};
    broker__codec_init(&reader->codec);
}

static void reader_deinit(struct reader *reader)
{
    broker__message_deinit(&reader->message);
    broker__codec_deinit(&reader->codec);
}

/* basic.deliver with its content: publish's frames behind a deliver method. */
static void put_delivery(const struct broker__codec *codec, struct evbuffer *out, size_t body_len)
{
    struct evbuffer *published = evbuffer_new();
    amqp_basic_deliver_t deliver = {.consumer_tag = broker__text("operation"),
                                    .delivery_tag = 9,
                                    .exchange = broker__text("cheops.site.A"),
                                    .routing_key = broker__text("operation")};
    amqp_table_entry_t header = {.key = broker__text(BROKER_HEADER_NUMBER),
                                 .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = 77}};
    amqp_basic_properties_t properties = {._flags =
                                              AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_HEADERS_FLAG,
                                          .message_id = broker__text("m-1"),
                                          .headers = {.num_entries = 1, .entries = &header}};
    amqp_basic_publish_t publish = {.exchange = broker__text(""), .routing_key = broker__text("")};
    char *body = calloc(1, body_len + 1);

    assert_int_equal(0, broker__codec_put_method(out, 1, AMQP_BASIC_DELIVER_METHOD, &deliver));
    assert_int_equal(0, broker__codec_put_publish(codec, published, 1, &publish, &properties,
                                                  chp_bytes(body, body_len)));
    uint8_t head[7];
    assert_int_equal(7, evbuffer_remove(published, head, 7));
    size_t len = (size_t)head[5] << 8 | head[6];
    assert_int_equal(0, evbuffer_drain(published, len + 1)); /* basic.publish itself */
    assert_int_equal(0, evbuffer_add_buffer(out, published));
    evbuffer_free(published);
    free(body);
}

static void a_message_survives_both_ways(void **state)
{
    const size_t sizes[] = {0, 1, 4088, 4089, 300000, CHP_MESSAGE_MAX_BYTES};
    struct reader reader;

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct evbuffer *bytes = evbuffer_new();
        reader_init(&reader);
        put_delivery(&reader.codec, bytes, sizes[i]);
        broker__codec_put_heartbeat(bytes);
        assert_int_equal(
            0, broker__codec_read(&reader.codec, bytes, reader_on_frame, &reader, &reader.error));
        assert_int_equal(1, reader.messages);
        assert_string_equal("operation", reader.routing_key);
        assert_string_equal("m-1", reader.message_id);
        assert_int_equal(77, reader.number);
        assert_int_equal(sizes[i], reader.body_bytes);
        assert_int_equal(sizes[i], reader.kept_bytes);
        assert_int_equal(0, evbuffer_get_length(bytes));
        evbuffer_free(bytes);
        reader_deinit(&reader);
    }
}

static void a_message_byte_by_byte(void **state)
{
    struct evbuffer *bytes = evbuffer_new();
    struct evbuffer *one = evbuffer_new();
    struct reader reader;

    (void)state;
    reader_init(&reader);
    put_delivery(&reader.codec, bytes, 5000);
    while (evbuffer_get_length(bytes) > 0) {
        assert_int_equal(0, reader.messages);
        assert_int_equal(1, evbuffer_remove_buffer(bytes, one, 1));
        assert_int_equal(
            0, broker__codec_read(&reader.codec, one, reader_on_frame, &reader, &reader.error));
    }
    assert_int_equal(1, reader.messages);
    evbuffer_free(bytes);
    evbuffer_free(one);
    reader_deinit(&reader);
}

static void a_huge_message_costs_only_what_is_kept(void **state)
{
    struct evbuffer *bytes = evbuffer_new();
    struct reader reader;

    (void)state;
    reader_init(&reader);
    put_delivery(&reader.codec, bytes, 4 * CHP_MESSAGE_MAX_BYTES);
    assert_int_equal(
        0, broker__codec_read(&reader.codec, bytes, reader_on_frame, &reader, &reader.error));
    assert_int_equal(4 * CHP_MESSAGE_MAX_BYTES, reader.body_bytes);
    assert_int_equal(BROKER_CUT_BYTES, reader.kept_bytes);
    assert_true(reader.message.body.cap <= 2 * BROKER_CUT_BYTES);
    evbuffer_free(bytes);
    reader_deinit(&reader);
}

static void malformed_bytes_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int code;
    } cases[] = {
        {"AMQP\1\1\0\12", 8, CHP_EVERSION},
        {"\1\0\1\x7f\xff\xff\xff\0", 8, CHP_EMALFORMED},       /* 2 GiB */
        {"\1\0\1\0\0\0\4\0\12\0\12\0", 12, CHP_EMALFORMED},    /* no end of frame */
        {"\1\0\1\0\0\0\2\0\12\xce", 10, CHP_EMALFORMED},       /* too short for a method */
        {"\1\0\3\0\0\0\4\0\12\0\62\xce", 12, CHP_EMALFORMED},  /* channel 3 */
        {"\1\0\1\0\0\0\4\0\x63\0\62\xce", 12, CHP_EMALFORMED}, /* no such method */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct evbuffer *bytes = evbuffer_new();
        struct reader reader;
        reader_init(&reader);
        assert_int_equal(0, evbuffer_add(bytes, cases[i].bytes, cases[i].len));
        assert_int_equal(cases[i].code, broker__codec_read(&reader.codec, bytes, reader_on_frame,
                                                           &reader, &reader.error));
        assert_true(reader.error.text[0] != '\0');
        evbuffer_free(bytes);
        reader_deinit(&reader);
    }
}

static void content_without_its_method_is_refused(void **state)
{
    struct evbuffer *bytes = evbuffer_new();
    struct reader reader;

    (void)state;
    reader_init(&reader);
    assert_int_equal(0, evbuffer_add(bytes, "\3\0\1\0\0\0\1x\xce", 9));
    assert_int_equal(
        0, broker__codec_read(&reader.codec, bytes, reader_on_frame, &reader, &reader.error));
    assert_int_equal(CHP_EMALFORMED, reader.code);
    evbuffer_free(bytes);
    reader_deinit(&reader);
}

static void texts_that_amqp_cannot_carry_write_nothing(void **state)
{
    struct evbuffer *out = evbuffer_new();
    struct broker__codec codec = {0};
    char long_text[300];

    (void)state;
    broker__codec_init(&codec);
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    amqp_basic_publish_t publish = {.exchange = broker__text(""),
                                    .routing_key = broker__text(long_text)};
    amqp_basic_properties_t properties = {0};
    assert_int_equal(CHP_EINVAL, broker__codec_put_publish(&codec, out, 1, &publish, &properties,
                                                           chp_bytes_of("x")));
    publish.routing_key = broker__text("x");
    properties = (amqp_basic_properties_t){._flags = AMQP_BASIC_MESSAGE_ID_FLAG,
                                           .message_id = broker__text(long_text)};
    assert_int_equal(CHP_EINVAL, broker__codec_put_publish(&codec, out, 1, &publish, &properties,
                                                           chp_bytes_of("x")));
    assert_int_equal(0, evbuffer_get_length(out));
    broker__codec_deinit(&codec);
    evbuffer_free(out);
}

static void bad_uris_are_refused_without_quoting_the_password(void **state)
{
    static const char *const uris[] = {
        "", "http://agent:topsecret@127.0.0.1/", "amqp://agent:topsecret@broker.example.org:5672/",
        "amqp://agent:topsecret@127.0.0.1:notaport/", "agent:topsecret@127.0.0.1"};
    const struct chp_broker_callbacks callbacks = {0};
    struct event_base *base = event_base_new();
    struct chp_amqp_config config = {.site = "A",
                                     .base = base,
                                     .prefetch = 10,
                                     .retry_min_ms = 10,
                                     .retry_max_ms = 100,
                                     .output_max_bytes = 1000,
                                     .unconfirmed_max = 10};

    (void)state;
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        struct chp_error error = {0};
        config.uri = uris[i];
        assert_null(chp_amqp_broker_new(&config, &callbacks, &error));
        assert_true(error.text[0] != '\0');
        assert_null(strstr(error.text, "topsecret"));
    }
    struct chp_error error = {0};
    config.uri = "amqps://agent:topsecret@127.0.0.1/%2F";
    config.ca_file = "/does/not/exist.pem";
    assert_null(chp_amqp_broker_new(&config, &callbacks, &error));
    assert_non_null(strstr(error.text, "/does/not/exist.pem"));
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_survives_both_ways),
        cmocka_unit_test(a_message_byte_by_byte),
        cmocka_unit_test(a_huge_message_costs_only_what_is_kept),
        cmocka_unit_test(malformed_bytes_are_refused),
        cmocka_unit_test(content_without_its_method_is_refused),
        cmocka_unit_test(texts_that_amqp_cannot_carry_write_nothing),
        cmocka_unit_test(bad_uris_are_refused_without_quoting_the_password),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
