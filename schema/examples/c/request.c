/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Ask for an operation over AMQP and print what each site answers.
 *
 *     request --amqp amqp://user:password@127.0.0.1:5672/ --site Nantes --id greeting --type set \
 *         --scope 'Nantes & Rennes' -- sh -c 'echo hello'
 *
 * CHEOPS_AMQP and CHEOPS_SITE stand for the first two; the scope is needed when the resource is
 * new. Ends with 0 when every site is done, 1 when one is not, 2 when the request was refused, 3
 * when the time was over, 4 when the broker could not be reached or did not take the request.
 *
 * A blocking client, which is fine for a program that does nothing else. There are no publisher
 * confirms: the answer "accepted" says more, and when it stays out, the same request under the same
 * key can be published again.
 */
#if defined(__has_include) && __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif
#include <getopt.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { DONE, FAILED, REFUSED, TIMEOUT, UNREACHABLE };
enum { CHANNEL = 1, WAIT_S = 60, KEY_BYTES = 33 };

struct asked {
    char *amqp;
    const char *site;
    const char *id;
    const char *type;
    const char *scope;
    char **argv;
    size_t argc;
};

static int fail(const char *what, int status)
{
    (void)fprintf(stderr, "%s: %s\n", what, amqp_error_string2(status));
    return UNREACHABLE;
}

/* 0, or says what the broker or the library had against the last call. */
static int check_reply(const char *what, amqp_rpc_reply_t reply)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
        return 0;
    }
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) {
        return fail(what, reply.library_error);
    }
    amqp_bytes_t text = amqp_cstring_bytes("refused by the broker");
    if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        text = ((amqp_channel_close_t *)reply.reply.decoded)->reply_text;
    } else if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        text = ((amqp_connection_close_t *)reply.reply.decoded)->reply_text;
    }
    (void)fprintf(stderr, "%s: %.*s\n", what, (int)text.len, (const char *)text.bytes);
    return UNREACHABLE;
}

static int open_channel(amqp_connection_state_t connection, char *uri)
{
    struct amqp_connection_info info;
    int status = amqp_parse_url(uri, &info);
    if (status != AMQP_STATUS_OK || info.ssl) {
        return fail("the URI must be amqp://user:password@host:port/vhost", status);
    }
    amqp_socket_t *socket = amqp_tcp_socket_new(connection); /* goes with the connection */
    status =
        socket == NULL ? AMQP_STATUS_NO_MEMORY : amqp_socket_open(socket, info.host, info.port);
    if (status != AMQP_STATUS_OK) {
        return fail("connect", status);
    }
    /* "amqp://host/" names the empty vhost, strictly; everybody means "/". */
    const char *vhost = info.vhost[0] == 0 ? "/" : info.vhost;
    int result = check_reply("login", amqp_login(connection, vhost, 1, 131072, 30,
                                                 AMQP_SASL_METHOD_PLAIN, info.user, info.password));
    if (result != 0) {
        return result;
    }
    amqp_channel_open(connection, CHANNEL);
    return check_reply("broker", amqp_get_rpc_reply(connection));
}

/* A server-named exclusive queue for the answers, consumed; its name is valid as long as the
 * channel. */
static int open_answers(amqp_connection_state_t connection, amqp_bytes_t *queue)
{
    amqp_queue_declare_ok_t *declared =
        amqp_queue_declare(connection, CHANNEL, amqp_empty_bytes, 0, 0, 1, 1, amqp_empty_table);
    if (declared == NULL) {
        return check_reply("broker", amqp_get_rpc_reply(connection));
    }
    *queue = amqp_bytes_malloc_dup(declared->queue);
    amqp_basic_consume(connection, CHANNEL, *queue, amqp_empty_bytes, 0, 1, 1, amqp_empty_table);
    return check_reply("broker", amqp_get_rpc_reply(connection));
}

static void make_key(char key[KEY_BYTES])
{
    unsigned char random[16];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        abort();
    }
    for (size_t i = 0; i < sizeof random; i++) {
        (void)snprintf(key + 2 * i, 3, "%02x", random[i]);
    }
}

static void pack_text(msgpack_packer *packer, const char *text)
{
    (void)msgpack_pack_str_with_body(packer, text, strlen(text));
}

static void pack_pair(msgpack_packer *packer, const char *name, const char *text)
{
    pack_text(packer, name);
    pack_text(packer, text);
}

static void pack_request(msgpack_sbuffer *body, const char *key, const struct asked *asked)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, body, msgpack_sbuffer_write);
    (void)msgpack_pack_map(&packer, asked->scope == NULL ? 4 : 5);
    pack_pair(&packer, "key", key);
    pack_pair(&packer, "resource", asked->id);
    pack_pair(&packer, "type", asked->type);
    if (asked->scope != NULL) {
        pack_pair(&packer, "scope", asked->scope);
    }
    pack_text(&packer, "command");
    (void)msgpack_pack_array(&packer, asked->argc);
    for (size_t i = 0; i < asked->argc; i++) {
        pack_text(&packer, asked->argv[i]);
    }
}

static int publish(amqp_connection_state_t connection, const char *site, amqp_bytes_t queue,
                   const char *key, const msgpack_sbuffer *body)
{
    char exchange[256];
    (void)snprintf(exchange, sizeof exchange, "cheops.site.%s", site);
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                  AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG,
        .content_type = amqp_cstring_bytes("application/msgpack"),
        .delivery_mode = 2,
        .reply_to = queue,
        .correlation_id = amqp_cstring_bytes(key),
    };
    int status = amqp_basic_publish(connection, CHANNEL, amqp_cstring_bytes(exchange),
                                    amqp_cstring_bytes("request"), 1, 0, &properties,
                                    (amqp_bytes_t){.len = body->size, .bytes = body->data});
    return status == AMQP_STATUS_OK ? 0 : fail("publish", status);
}

/* The text of a field of a map, as borrowed bytes. */
static msgpack_object_str text_of(const msgpack_object *map, const char *name)
{
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *pair = &map->via.map.ptr[i];
        if (pair->key.type == MSGPACK_OBJECT_STR && pair->val.type == MSGPACK_OBJECT_STR &&
            pair->key.via.str.size == strlen(name) &&
            memcmp(pair->key.via.str.ptr, name, strlen(name)) == 0) {
            return pair->val.via.str;
        }
    }
    return (msgpack_object_str){.ptr = "", .size = 0};
}

static int is_text(msgpack_object_str text, const char *expected)
{
    return text.size == strlen(expected) && memcmp(text.ptr, expected, text.size) == 0;
}

/* Prints an answer; the exit code when it is the last one, else -1. */
static int handle(amqp_bytes_t body)
{
    int result = -1;
    msgpack_unpacked answer;
    msgpack_unpacked_init(&answer);
    if (msgpack_unpack_next(&answer, body.bytes, body.len, NULL) != MSGPACK_UNPACK_SUCCESS ||
        answer.data.type != MSGPACK_OBJECT_MAP) {
        (void)fprintf(stderr, "an answer that is no map\n");
        result = UNREACHABLE;
    } else {
        msgpack_object_str kind = text_of(&answer.data, "kind");
        msgpack_object_print(stdout, answer.data);
        (void)puts("");
        if (is_text(kind, "refused")) {
            result = REFUSED;
        } else if (is_text(kind, "completed")) {
            result = is_text(text_of(&answer.data, "state"), "done") ? DONE : FAILED;
        }
    }
    msgpack_unpacked_destroy(&answer);
    return result;
}

static int wait_for_answers(amqp_connection_state_t connection)
{
    int result = -1;
    while (result < 0) {
        amqp_envelope_t envelope;
        struct timeval timeout = {.tv_sec = WAIT_S};
        amqp_maybe_release_buffers(connection);
        amqp_rpc_reply_t reply = amqp_consume_message(connection, &envelope, &timeout, 0);
        if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
            result = handle(envelope.message.body);
            amqp_destroy_envelope(&envelope);
        } else if (reply.library_error == AMQP_STATUS_TIMEOUT) {
            (void)fprintf(stderr, "no answer for %d seconds\n", WAIT_S);
            result = TIMEOUT;
        } else if (reply.library_error == AMQP_STATUS_UNEXPECTED_STATE) {
            /* Not a delivery: the request came back, since no such site is here, or the broker
             * closes. */
            (void)fprintf(stderr, "the broker did not take the request\n");
            result = UNREACHABLE;
        } else {
            result = fail("wait", reply.library_error);
        }
    }
    return result;
}

static int read_arguments(int argc, char **argv, struct asked *asked)
{
    static const struct option options[] = {
        {"amqp", required_argument, NULL, 'a'},  {"site", required_argument, NULL, 's'},
        {"id", required_argument, NULL, 'i'},    {"type", required_argument, NULL, 't'},
        {"scope", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0},
    };
    *asked = (struct asked){.amqp = getenv("CHEOPS_AMQP"), .site = getenv("CHEOPS_SITE")};
    for (int option = 0; (option = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
        switch (option) {
        case 'a':
            asked->amqp = optarg;
            break;
        case 's':
            asked->site = optarg;
            break;
        case 'i':
            asked->id = optarg;
            break;
        case 't':
            asked->type = optarg;
            break;
        case 'c':
            asked->scope = optarg;
            break;
        default:
            return REFUSED;
        }
    }
    asked->argv = argv + optind;
    asked->argc = (size_t)(argc - optind);
    if (asked->amqp == NULL || asked->site == NULL || asked->id == NULL || asked->type == NULL ||
        asked->argc == 0) {
        (void)fprintf(
            stderr,
            "usage: %s --amqp URI --site SITE --id ID --type TYPE [--scope SCOPE] -- COMMAND...\n",
            argv[0]);
        return REFUSED;
    }
    return 0;
}

static int ask(const struct asked *asked, amqp_connection_state_t connection)
{
    char key[KEY_BYTES];
    msgpack_sbuffer body;
    amqp_bytes_t queue = amqp_empty_bytes;
    msgpack_sbuffer_init(&body);
    make_key(key);
    pack_request(&body, key, asked);
    int result = open_channel(connection, asked->amqp);
    if (result == 0) {
        result = open_answers(connection, &queue);
    }
    if (result == 0) {
        result = publish(connection, asked->site, queue, key, &body);
    }
    if (result == 0) {
        result = wait_for_answers(connection);
    }
    amqp_bytes_free(queue);
    msgpack_sbuffer_destroy(&body);
    return result;
}

int main(int argc, char **argv)
{
    struct asked asked;
    int result = read_arguments(argc, argv, &asked);
    if (result != 0) {
        return result;
    }
    amqp_connection_state_t connection = amqp_new_connection();
    result = ask(&asked, connection);
    (void)amqp_destroy_connection(connection);
    return result;
}
