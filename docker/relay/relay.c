/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The wire between the demo's brokers, which can be cut.
 *
 * Every shovel connects to the broker of another site through a port of this relay. Cutting two
 * sites stops both directions, whichever side opened the connection: connections that are open are
 * held (no byte passes, nothing is closed, as on a network that drops packets) and new ones are
 * refused at once. Healing lets held connections go on, or drops them when they were held for
 * longer than HOLD_MAX_S, since by then both ends have given them up.
 *
 * Usage: cheops-relay LINKS CUTS APPLIED
 *   LINKS    file with lines "FROM TO LISTEN_PORT TARGET_PORT", read once; all on 127.0.0.1
 *   CUTS     file with lines "A B": pairs that are cut; read at start and on SIGHUP, may be absent
 *   APPLIED  is replaced by a copy of CUTS once it has effect, so that a script can wait for it
 *
 * Rejected: firewall rules (need root, and touch the machine); a command socket (the path of a unix
 * socket is bounded to 107 bytes, a checkout's is not, and state in a file survives the relay).
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LINKS_MAX = 4096,              /* 64 sites, every ordered pair */
    NAME_BYTES = 101,              /* site names have at most 100 bytes */
    BUFFER_MAX_BYTES = 256 * 1024, /* towards one side; then the other side is not read */
    CONNECTIONS_MAX = 32,          /* of one link: its lanes have one shovel each */
    CUTS_MAX_BYTES = 64 * 1024,
    HOLD_MAX_S = 60, /* longer than any heartbeat of the links */
};

struct link;

/* One connection: the side that opened it and the side towards the target. */
struct pair {
    struct link *link;
    struct bufferevent *sides[2];
    bool ended; /* one side has closed: go when the other has got everything */
    struct pair *next;
};

struct link {
    char from[NAME_BYTES];
    char to[NAME_BYTES];
    unsigned listen_port;
    unsigned target_port;
    struct evconnlistener *listener;
    struct pair *pairs;
    unsigned pair_count;
    bool cut;
    time_t cut_since;
    struct relay *relay;
};

struct relay {
    struct event_base *base;
    struct link *links;
    size_t link_count;
    const char *cuts_path;
    const char *applied_path;
};

static time_t now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void pair_free(struct pair *pair)
{
    struct pair **place = &pair->link->pairs;

    while (*place != pair) {
        place = &(*place)->next;
    }
    *place = pair->next;
    pair->link->pair_count--;
    for (int i = 0; i < 2; i++) {
        bufferevent_free(pair->sides[i]);
    }
    free(pair);
}

static struct bufferevent *other_side(const struct pair *pair, const struct bufferevent *side)
{
    return pair->sides[pair->sides[0] == side];
}

/* Passes on what has arrived; stops reading while the other side does not take it. */
static void pair_on_readable(struct bufferevent *side, void *user)
{
    struct pair *pair = user;
    struct bufferevent *other = other_side(pair, side);

    evbuffer_add_buffer(bufferevent_get_output(other), bufferevent_get_input(side));
    if (evbuffer_get_length(bufferevent_get_output(other)) >= BUFFER_MAX_BYTES) {
        bufferevent_disable(side, EV_READ);
    }
}

/* The output of side went below its low watermark. */
static void pair_on_drained(struct bufferevent *side, void *user)
{
    struct pair *pair = user;

    if (!pair->ended) {
        bufferevent_enable(other_side(pair, side), EV_READ);
    } else if (evbuffer_get_length(bufferevent_get_output(side)) == 0) {
        pair_free(pair);
    }
}

static void pair_on_event(struct bufferevent *side, short what, void *user)
{
    struct pair *pair = user;
    struct bufferevent *other = other_side(pair, side);

    if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) == 0) {
        return;
    }
    if (pair->ended || (what & BEV_EVENT_ERROR) != 0 ||
        evbuffer_get_length(bufferevent_get_output(other)) == 0) {
        pair_free(pair);
        return;
    }
    pair->ended = true;
    bufferevent_disable(side, EV_READ | EV_WRITE);
    bufferevent_disable(other, EV_READ);
    bufferevent_setwatermark(other, EV_WRITE, 0, 0);
}

static struct sockaddr_in loopback(unsigned port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void link_on_connection(struct evconnlistener *listener, evutil_socket_t fd,
                               struct sockaddr *address, int address_bytes, void *user)
{
    struct link *link = user;
    struct sockaddr_in target = loopback(link->target_port);
    struct pair *pair = NULL;

    (void)listener;
    (void)address;
    (void)address_bytes;
    if (link->pair_count == CONNECTIONS_MAX || (pair = calloc(1, sizeof(*pair))) == NULL) {
        evutil_closesocket(fd);
        return;
    }
    pair->link = link;
    pair->sides[0] = bufferevent_socket_new(link->relay->base, fd, BEV_OPT_CLOSE_ON_FREE);
    pair->sides[1] = bufferevent_socket_new(link->relay->base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (pair->sides[0] == NULL || pair->sides[1] == NULL) {
        abort(); /* out of memory */
    }
    pair->next = link->pairs;
    link->pairs = pair;
    link->pair_count++;
    for (int i = 0; i < 2; i++) {
        bufferevent_setcb(pair->sides[i], pair_on_readable, pair_on_drained, pair_on_event, pair);
        bufferevent_setwatermark(pair->sides[i], EV_WRITE, BUFFER_MAX_BYTES / 2, 0);
        bufferevent_enable(pair->sides[i], EV_READ | EV_WRITE);
    }
    if (bufferevent_socket_connect(pair->sides[1], (struct sockaddr *)&target, sizeof(target)) !=
        0) {
        pair_free(pair);
    }
}

static void pair_hold(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        bufferevent_disable(pair->sides[i], EV_READ | EV_WRITE);
    }
}

static void pair_go_on(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        bufferevent_enable(pair->sides[i], EV_WRITE);
        if (!pair->ended && evbuffer_get_length(bufferevent_get_output(
                                other_side(pair, pair->sides[i]))) < BUFFER_MAX_BYTES) {
            bufferevent_enable(pair->sides[i], EV_READ);
        }
    }
}

/* On Linux a listening socket that is shut down keeps its port and refuses connections until it
 * listens again. */
static void link_cut(struct link *link)
{
    link->cut = true;
    link->cut_since = now_s();
    evconnlistener_disable(link->listener);
    shutdown(evconnlistener_get_fd(link->listener), SHUT_RDWR);
    for (struct pair *pair = link->pairs; pair != NULL; pair = pair->next) {
        pair_hold(pair);
    }
    fprintf(stderr, "cut from=%s to=%s held=%u\n", link->from, link->to, link->pair_count);
}

static void link_heal(struct link *link)
{
    bool drop = now_s() - link->cut_since > HOLD_MAX_S;
    struct pair *next = NULL;

    link->cut = false;
    fprintf(stderr, "healed from=%s to=%s held=%u dropped=%s\n", link->from, link->to,
            link->pair_count, drop ? "yes" : "no");
    for (struct pair *pair = link->pairs; pair != NULL; pair = next) {
        next = pair->next;
        if (drop) {
            pair_free(pair);
        } else {
            pair_go_on(pair);
        }
    }
    if (listen(evconnlistener_get_fd(link->listener), SOMAXCONN) != 0) {
        perror("listen");
        abort(); /* the port is ours: cannot happen */
    }
    evconnlistener_enable(link->listener);
}

/* Content of a file as text; empty when there is none or it is longer than bytes allow. */
static void file_read(const char *path, char *text, size_t bytes)
{
    FILE *file = fopen(path, "r");
    size_t len = 0;

    if (file != NULL) {
        len = fread(text, 1, bytes - 1, file);
        fclose(file);
    }
    text[len] = '\0';
}

static bool cuts_have(const char *cuts, const char *a, const char *b)
{
    char first[NAME_BYTES];
    char second[NAME_BYTES];
    int used = 0;

    for (; sscanf(cuts, "%100s %100s%n", first, second, &used) == 2; cuts += used) {
        if ((strcmp(first, a) == 0 && strcmp(second, b) == 0) ||
            (strcmp(first, b) == 0 && strcmp(second, a) == 0)) {
            return true;
        }
    }
    return false;
}

static void relay_tell(const struct relay *relay, const char *cuts)
{
    char temporary[4096];
    FILE *file = NULL;

    if (snprintf(temporary, sizeof(temporary), "%s.new", relay->applied_path) >=
        (int)sizeof(temporary)) {
        fprintf(stderr, "path too long path=%s\n", relay->applied_path);
        return;
    }
    file = fopen(temporary, "w");
    if (file == NULL) {
        perror(temporary);
        return;
    }
    fputs(cuts, file);
    if (fclose(file) != 0 || rename(temporary, relay->applied_path) != 0) {
        perror(temporary);
    }
}

static void relay_apply(struct relay *relay)
{
    char *cuts = malloc(CUTS_MAX_BYTES);

    if (cuts == NULL) {
        abort();
    }
    file_read(relay->cuts_path, cuts, CUTS_MAX_BYTES);
    for (size_t i = 0; i < relay->link_count; i++) {
        struct link *link = &relay->links[i];
        bool cut = cuts_have(cuts, link->from, link->to);

        if (cut && !link->cut) {
            link_cut(link);
        } else if (!cut && link->cut) {
            link_heal(link);
        }
    }
    relay_tell(relay, cuts);
    free(cuts);
}

static void relay_on_hangup(evutil_socket_t number, short what, void *user)
{
    (void)number;
    (void)what;
    relay_apply(user);
}

static void relay_on_stop(evutil_socket_t number, short what, void *user)
{
    struct relay *relay = user;

    (void)number;
    (void)what;
    event_base_loopbreak(relay->base);
}

static int relay_listen(struct relay *relay)
{
    for (size_t i = 0; i < relay->link_count; i++) {
        struct link *link = &relay->links[i];
        struct sockaddr_in address = loopback(link->listen_port);

        link->relay = relay;
        link->listener = evconnlistener_new_bind(
            relay->base, link_on_connection, link,
            LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, SOMAXCONN,
            (struct sockaddr *)&address, sizeof(address));
        if (link->listener == NULL) {
            fprintf(stderr, "cannot listen port=%u error=\"%s\"\n", link->listen_port,
                    strerror(errno));
            return -1;
        }
    }
    return 0;
}

static int relay_read_links(struct relay *relay, const char *path)
{
    FILE *file = fopen(path, "r");
    char line[512];
    int result = 0;

    if (file == NULL) {
        perror(path);
        return -1;
    }
    while (result == 0 && fgets(line, sizeof(line), file) != NULL) {
        struct link *link = &relay->links[relay->link_count];

        if (relay->link_count == LINKS_MAX ||
            /* NOLINTNEXTLINE(cert-err34-c): the ports are checked below */
            sscanf(line, "%100s %100s %u %u", link->from, link->to, &link->listen_port,
                   &link->target_port) != 4 ||
            link->listen_port - 1 >= 65535 || link->target_port - 1 >= 65535) {
            fprintf(stderr, "bad line %zu of %s: need FROM TO LISTEN_PORT TARGET_PORT\n",
                    relay->link_count + 1, path);
            result = -1;
        }
        relay->link_count++;
    }
    fclose(file);
    return result;
}

static void relay_close(struct relay *relay)
{
    for (size_t i = 0; i < relay->link_count; i++) {
        struct pair *next = NULL;

        for (struct pair *pair = relay->links[i].pairs; pair != NULL; pair = next) {
            next = pair->next;
            pair_free(pair);
        }
        if (relay->links[i].listener != NULL) {
            evconnlistener_free(relay->links[i].listener);
        }
    }
}

static int relay_run(struct relay *relay)
{
    struct event *hangup = evsignal_new(relay->base, SIGHUP, relay_on_hangup, relay);
    struct event *stop = evsignal_new(relay->base, SIGTERM, relay_on_stop, relay);
    int result = -1;

    if (hangup == NULL || stop == NULL) {
        abort();
    }
    evsignal_add(hangup, NULL);
    evsignal_add(stop, NULL);
    if (relay_listen(relay) == 0) {
        relay_apply(relay);
        result = event_base_dispatch(relay->base) < 0 ? -1 : 0;
    }
    relay_close(relay);
    event_free(hangup);
    event_free(stop);
    return result;
}

int main(int argc, char **argv)
{
    struct relay relay = {0};
    int status = EXIT_FAILURE;

    if (argc != 4) {
        fprintf(stderr, "usage: cheops-relay LINKS CUTS APPLIED\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    relay.cuts_path = argv[2];
    relay.applied_path = argv[3];
    relay.links = calloc(LINKS_MAX + 1, sizeof(*relay.links));
    relay.base = event_base_new();
    if (relay.links == NULL || relay.base == NULL) {
        abort();
    }
    if (relay_read_links(&relay, argv[1]) == 0 && relay_run(&relay) == 0) {
        status = EXIT_SUCCESS;
    }
    event_base_free(relay.base);
    free(relay.links);
    return status;
}
