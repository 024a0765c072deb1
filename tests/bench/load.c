/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Clients of the agents.
 *
 *   load amqp URI SITE COUNT RESOURCES PREFIX     publishes COUNT requests, 1,000 unconfirmed
 *   load amqp-latency URI SITE COUNT PREFIX       one at a time, from publishing to `completed`
 *   load http ADDRESS TOKEN COUNT CLIENTS PREFIX  COUNT requests, each waits for all three sites
 *   load spawn COUNT                              fork and exec of `true`, one at a time
 *
 * SCOPE in the environment is the scope of the requests. Each payload has 300 bytes; resources are
 * PREFIX-<n>, of HTTP one for each client. Prints one line of JSON.
 */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <msgpack.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WINDOW = 1000, ARGUMENT_BYTES = 288, ANSWER_BYTES = 65536, WAIT_US = 30000000 };

static char
    argument[ARGUMENT_BYTES + 1]; /* of the command `true`: with it a payload has 300 bytes */

static const char *scope(void)
{
    const char *text = getenv("SCOPE");
    return text == NULL ? "Nantes & Rennes & Paris" : text;
}

static void pack_text(msgpack_packer *packer, const char *text)
{
    size_t len = strlen(text);
    (void)msgpack_pack_str(packer, len);
    (void)msgpack_pack_str_body(packer, text, len);
}

static void pack_request(msgpack_sbuffer *body, const char *resource)
{
    msgpack_packer packer;
    msgpack_sbuffer_clear(body);
    msgpack_packer_init(&packer, body, msgpack_sbuffer_write);
    (void)msgpack_pack_map(&packer, 4);
    pack_text(&packer, "resource");
    pack_text(&packer, resource);
    pack_text(&packer, "type");
    pack_text(&packer, "set");
    pack_text(&packer, "scope");
    pack_text(&packer, scope());
    pack_text(&packer, "command");
    (void)msgpack_pack_array(&packer, 2);
    pack_text(&packer, "true");
    pack_text(&packer, argument);
}

static void publish_request(struct amqp_link *link, const char *site, const char *resource,
                            const char *reply_to, msgpack_sbuffer *body)
{
    char exchange[200];
    char key[37];
    struct id id;
    link_new_id(&id);
    link_id_text(&id, key);
    (void)snprintf(exchange, sizeof exchange, "cheops.site.%s", site);
    pack_request(body, resource);
    link_publish(link, exchange, "request", body->data, body->size, key, reply_to);
}

static void amqp(char **argv)
{
    size_t count = strtoul(argv[4], NULL, 10);
    size_t resources = strtoul(argv[5], NULL, 10);
    struct amqp_link *link = link_dial(argv[2], WINDOW);
    msgpack_sbuffer body;
    msgpack_sbuffer_init(&body);
    double start_s = link_now_s();
    for (size_t i = 0; i < count; i++) {
        char resource[200];
        (void)snprintf(resource, sizeof resource, "%s-%zu", argv[6], i % resources);
        publish_request(link, argv[3], resource, NULL, &body);
    }
    link_flush(link);
    (void)printf("{\"seconds\": %.4f}\n", link_now_s() - start_s);
    msgpack_sbuffer_destroy(&body);
    link_close(link);
}

static bool has(const amqp_bytes_t *body, const char *text)
{
    return memmem(body->bytes, body->len, text, strlen(text)) != NULL;
}

static void amqp_latency(char **argv)
{
    size_t count = strtoul(argv[4], NULL, 10);
    double *seconds = calloc(count, sizeof *seconds);
    struct amqp_link *out = link_dial(argv[2], WINDOW);
    struct amqp_link *in = link_dial(argv[2], 0);
    msgpack_sbuffer body;
    msgpack_sbuffer_init(&body);
    amqp_queue_declare_ok_t *queue =
        amqp_queue_declare(in->connection, 1, amqp_empty_bytes, 0, 0, 1, 1, amqp_empty_table);
    if (queue == NULL) {
        link_die("no queue for the replies");
    }
    char name[200];
    (void)snprintf(name, sizeof name, "%.*s", (int)queue->queue.len,
                   (const char *)queue->queue.bytes);
    link_consume(in, name, 100, true);
    for (size_t i = 0; i < count; i++) {
        double start_s = link_now_s();
        publish_request(out, argv[3], argv[5], name, &body);
        for (bool completed = false; !completed;) {
            amqp_envelope_t envelope;
            if (!link_next(in, &envelope, WAIT_US)) {
                link_die("no answer to a request");
            }
            if (has(&envelope.message.body, "refused")) {
                link_die("a request was refused");
            }
            completed = has(&envelope.message.body, "completed");
            amqp_destroy_envelope(&envelope);
        }
        seconds[i] = link_now_s() - start_s;
    }
    (void)printf("{\"p50_ms\": %.3f", link_percentile(seconds, count, 0.5) * 1000);
    (void)printf(", \"p99_ms\": %.3f}\n", link_percentile(seconds, count, 0.99) * 1000);
    msgpack_sbuffer_destroy(&body);
    free(seconds);
    link_close(in);
    link_close(out);
}

struct client {
    struct sockaddr_in address;
    const char *token;
    const char *prefix;
    size_t number;
    size_t count;
    double *seconds;
    pthread_t thread;
};

static void parse_address(const char *text, struct sockaddr_in *address)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    (void)snprintf(host, sizeof host, "%.*s", (int)(colon == NULL ? 0 : colon - text), text);
    address->sin_family = AF_INET;
    if (colon == NULL || inet_pton(AF_INET, host, &address->sin_addr) != 1) {
        link_die("not an address: %s", text);
    }
    address->sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
}

/* Reads one chunked answer to its end; its last line must say that the operation is done. */
static void read_answer(int fd)
{
    static const char end[] = "\r\n0\r\n\r\n";
    char answer[ANSWER_BYTES];
    size_t len = 0;
    do {
        ssize_t got = read(fd, answer + len, sizeof answer - 1 - len);
        if (got <= 0) {
            link_die("the agent hung up: %.*s", (int)len, answer);
        }
        len += (size_t)got;
        answer[len] = 0;
    } while (len < sizeof end || strcmp(answer + len - (sizeof end - 1), end) != 0);
    if (strstr(answer, " 200 ") == NULL || strstr(answer, "\"completed\":true") == NULL ||
        strstr(answer, "\"failed\":[]") == NULL) {
        link_die("not done: %s", answer);
    }
}

static void *http_client(void *user)
{
    struct client *client = user;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&client->address, sizeof client->address) != 0) {
        link_die("no agent: %s", strerror(errno));
    }
    for (size_t i = 0; i < client->count; i++) {
        char body[1024];
        char request[2048];
        char key[37];
        struct id id;
        link_new_id(&id);
        link_id_text(&id, key);
        int body_len = snprintf(body, sizeof body,
                                "{\"resource\":\"%s-%zu\",\"type\":\"set\",\"scope\":\"%s\","
                                "\"command\":[\"true\",\"%s\"]}",
                                client->prefix, client->number, scope(), argument);
        int len = snprintf(request, sizeof request,
                           "POST /v1/operations?wait=true HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                           "Authorization: Bearer %s\r\nIdempotency-Key: %s\r\n"
                           "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                           client->token, key, body_len, body);
        double start_s = link_now_s();
        if (len >= (int)sizeof request || write(fd, request, (size_t)len) != len) {
            link_die("the agent takes no request: %s", strerror(errno));
        }
        read_answer(fd);
        client->seconds[i] = link_now_s() - start_s;
    }
    (void)close(fd);
    return NULL;
}

static void http(char **argv)
{
    size_t count = strtoul(argv[4], NULL, 10);
    size_t clients = strtoul(argv[5], NULL, 10);
    struct client *all = calloc(clients, sizeof *all);
    double *seconds = calloc(count, sizeof *seconds);
    double start_s = link_now_s();
    size_t given = 0;
    for (size_t i = 0; i < clients; i++) {
        struct client *client = &all[i];
        *client = (struct client){.token = argv[3], .prefix = argv[6], .number = i};
        parse_address(argv[2], &client->address);
        client->count = count / clients + (i < count % clients);
        client->seconds = seconds + given;
        given += client->count;
        if (pthread_create(&client->thread, NULL, http_client, client) != 0) {
            link_die("no thread");
        }
    }
    for (size_t i = 0; i < clients; i++) {
        (void)pthread_join(all[i].thread, NULL);
    }
    (void)printf("{\"seconds\": %.4f", link_now_s() - start_s);
    (void)printf(", \"p50_ms\": %.3f", link_percentile(seconds, count, 0.5) * 1000);
    (void)printf(", \"p99_ms\": %.3f}\n", link_percentile(seconds, count, 0.99) * 1000);
    free(seconds);
    free(all);
}

static void spawn(char **argv)
{
    size_t count = strtoul(argv[2], NULL, 10);
    double *seconds = calloc(count, sizeof *seconds);
    for (size_t i = 0; i < count; i++) {
        double start_s = link_now_s();
        pid_t pid = fork();
        if (pid == 0) {
            (void)execl("/bin/true", "true", argument, (char *)NULL);
            _exit(127);
        }
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
            link_die("fork and exec of true: %s", strerror(errno));
        }
        seconds[i] = link_now_s() - start_s;
    }
    (void)printf("{\"p50_ms\": %.3f", link_percentile(seconds, count, 0.5) * 1000);
    (void)printf(", \"p99_ms\": %.3f}\n", link_percentile(seconds, count, 0.99) * 1000);
    free(seconds);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int arguments;
        void (*run)(char **argv);
    } modes[] = {{"amqp", 5, amqp},
                 {"amqp-latency", 4, amqp_latency},
                 {"http", 5, http},
                 {"spawn", 1, spawn}};
    memset(argument, 'x', ARGUMENT_BYTES);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (argc == modes[i].arguments + 2 && strcmp(argv[1], modes[i].name) == 0) {
            modes[i].run(argv);
            return 0;
        }
    }
    link_die("usage: load amqp|amqp-latency|http|spawn ARGUMENTS");
}
