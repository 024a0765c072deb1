/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The wire between the demo's brokers, which can be cut, cut one way, and slow.
 *
 * Every shovel connects to the broker of another site through a port of this relay. Cutting two
 * sites stops both directions, whichever side opened the connection: connections that are open are
 * held (no byte passes, nothing is closed, as on a network that drops packets) and new ones are
 * refused at once. Cut one way, the bytes of the other direction go on passing, and connections
 * are refused, since they need both. Healing lets held connections go on, or drops them when they
 * were held for longer than HOLD_MAX_S, since by then both ends have given them up. On a slow link
 * every byte waits for its turn at the link's rate, and then for the delay.
 *
 * Usage: cheops-relay LINKS CUTS APPLIED
 *   LINKS    file with lines "FROM TO LISTEN_PORT TARGET_PORT", read once; all on 127.0.0.1
 *   CUTS     file with one line for each pair that is not whole; read at start and on SIGHUP, may
 *            be absent:
 *              A B                          cut
 *              A B oneway                   nothing that A sends reaches B
 *              A B slow DELAY_MS KIB_PER_S  both ways; 0 KIB_PER_S: any rate
 *   APPLIED  is replaced by a copy of CUTS once it has effect, so that a script can wait for it
 *
 * Rejected: firewall rules and traffic control (need root, and touch the machine); a command socket
 * (the path of a unix socket is bounded to 107 bytes, a checkout's is not, and state in a file
 * survives the relay).
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
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

/* Bytes that wait on a slow link. */
struct chunk {
    struct evbuffer *bytes;
    uint64_t due_us;
    struct chunk *next;
};

/* One connection: the side that opened it and the side towards the target. Direction 0 of a pair
 * and of its link is from side 0 to side 1, direction 1 the other one. */
struct pair {
    struct link *link;
    struct bufferevent *sides[2];
    struct chunk *first[2]; /* of each direction */
    struct chunk *last[2];
    size_t waiting_bytes[2];
    struct event *timer; /* the next chunk is due */
    int ended;           /* the side that has closed: go when the other has got everything; or -1 */
    struct pair *next;
};

/* How a link is. */
struct condition {
    bool blocked[2];
    unsigned delay_ms;
    unsigned kib_per_s; /* 0: any rate */
};

struct link {
    char from[NAME_BYTES];
    char to[NAME_BYTES];
    unsigned listen_port;
    unsigned target_port;
    struct evconnlistener *listener;
    struct pair *pairs;
    unsigned pair_count;
    struct condition condition;
    time_t blocked_since;
    uint64_t free_us[2]; /* when a slow direction has passed on all that it was given */
    struct relay *relay;
};

struct relay {
    struct event_base *base;
    struct link *links;
    size_t link_count;
    const char *cuts_path;
    const char *applied_path;
};

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static time_t now_s(void)
{
    return (time_t)(now_us() / 1000000);
}

static void chunk_free(struct chunk *chunk)
{
    evbuffer_free(chunk->bytes);
    free(chunk);
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
        while (pair->first[i] != NULL) {
            struct chunk *chunk = pair->first[i];
            pair->first[i] = chunk->next;
            chunk_free(chunk);
        }
        bufferevent_free(pair->sides[i]);
    }
    event_free(pair->timer);
    free(pair);
}

static int side_index(const struct pair *pair, const struct bufferevent *side)
{
    return pair->sides[1] == side;
}

/* What was read in a direction and has not been written. */
static size_t pair_unwritten(const struct pair *pair, int direction)
{
    return pair->waiting_bytes[direction] +
           evbuffer_get_length(bufferevent_get_output(pair->sides[!direction]));
}

/* Only on a change: to enable writing makes libevent tell at once that there is nothing to write.
 */
static void side_set(struct bufferevent *side, short event, bool wanted)
{
    bool enabled = (bufferevent_get_enabled(side) & event) != 0;

    if (wanted && !enabled) {
        bufferevent_enable(side, event);
    } else if (!wanted && enabled) {
        bufferevent_disable(side, event);
    }
}

/* Reads where the other side takes it, writes where the link lets it. */
static void pair_update(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        bool blocked = pair->link->condition.blocked[i];
        side_set(pair->sides[i], EV_READ,
                 !blocked && pair->ended < 0 && pair_unwritten(pair, i) < BUFFER_MAX_BYTES);
        side_set(pair->sides[!i], EV_WRITE, !blocked && pair->ended != !i);
    }
}

/* Puts what was read in a direction behind what waits there already. */
static void pair_delay(struct pair *pair, int direction, struct evbuffer *bytes)
{
    struct link *link = pair->link;
    const struct condition *condition = &link->condition;
    struct chunk *chunk = calloc(1, sizeof(*chunk));
    uint64_t now = now_us();
    size_t len = evbuffer_get_length(bytes);

    if (chunk == NULL || (chunk->bytes = evbuffer_new()) == NULL) {
        abort(); /* out of memory */
    }
    evbuffer_add_buffer(chunk->bytes, bytes);
    if (link->free_us[direction] < now) {
        link->free_us[direction] = now;
    }
    if (condition->kib_per_s != 0) {
        link->free_us[direction] += len * 1000000 / ((uint64_t)condition->kib_per_s * 1024);
    }
    chunk->due_us = link->free_us[direction] + (uint64_t)condition->delay_ms * 1000;
    if (pair->last[direction] != NULL && chunk->due_us < pair->last[direction]->due_us) {
        chunk->due_us = pair->last[direction]->due_us; /* the link was slower before */
    }
    *(pair->last[direction] == NULL ? &pair->first[direction] : &pair->last[direction]->next) =
        chunk;
    pair->last[direction] = chunk;
    pair->waiting_bytes[direction] += len;
}

/* Passes on what is due, and sets the timer for what is not. */
static void pair_release(struct pair *pair)
{
    uint64_t now = now_us();
    uint64_t next_us = UINT64_MAX;

    for (int i = 0; i < 2; i++) {
        while (pair->first[i] != NULL && pair->first[i]->due_us <= now) {
            struct chunk *chunk = pair->first[i];
            pair->waiting_bytes[i] -= evbuffer_get_length(chunk->bytes);
            evbuffer_add_buffer(bufferevent_get_output(pair->sides[!i]), chunk->bytes);
            pair->first[i] = chunk->next;
            pair->last[i] = chunk->next == NULL ? NULL : pair->last[i];
            chunk_free(chunk);
        }
        if (pair->first[i] != NULL && pair->first[i]->due_us < next_us) {
            next_us = pair->first[i]->due_us;
        }
    }
    if (next_us != UINT64_MAX) {
        struct timeval wait = {.tv_sec = (time_t)((next_us - now) / 1000000),
                               .tv_usec = (suseconds_t)((next_us - now) % 1000000)};
        evtimer_add(pair->timer, &wait);
    }
}

static void pair_on_due(evutil_socket_t fd, short what, void *user)
{
    struct pair *pair = user;

    (void)fd;
    (void)what;
    pair_release(pair);
    pair_update(pair);
}

/* Passes on what has arrived; stops reading while the other side does not take it. */
static void pair_on_readable(struct bufferevent *side, void *user)
{
    struct pair *pair = user;
    int direction = side_index(pair, side);
    const struct condition *condition = &pair->link->condition;

    if (condition->delay_ms == 0 && condition->kib_per_s == 0 && pair->first[direction] == NULL) {
        evbuffer_add_buffer(bufferevent_get_output(pair->sides[!direction]),
                            bufferevent_get_input(side));
    } else {
        pair_delay(pair, direction, bufferevent_get_input(side));
        pair_release(pair);
    }
    pair_update(pair);
}

/* The output of side went below its low watermark. */
static void pair_on_drained(struct bufferevent *side, void *user)
{
    struct pair *pair = user;

    if (pair->ended >= 0 && pair_unwritten(pair, !side_index(pair, side)) == 0) {
        pair_free(pair);
    } else {
        pair_update(pair);
    }
}

static void pair_on_event(struct bufferevent *side, short what, void *user)
{
    struct pair *pair = user;
    int direction = side_index(pair, side);

    if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) == 0) {
        return;
    }
    if (pair->ended >= 0 || (what & BEV_EVENT_ERROR) != 0 || pair_unwritten(pair, direction) == 0) {
        pair_free(pair);
        return;
    }
    pair->ended = direction;
    bufferevent_setwatermark(pair->sides[!direction], EV_WRITE, 0, 0);
    pair_update(pair);
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
    pair->ended = -1;
    pair->sides[0] = bufferevent_socket_new(link->relay->base, fd, BEV_OPT_CLOSE_ON_FREE);
    pair->sides[1] = bufferevent_socket_new(link->relay->base, -1, BEV_OPT_CLOSE_ON_FREE);
    pair->timer = evtimer_new(link->relay->base, pair_on_due, pair);
    if (pair->sides[0] == NULL || pair->sides[1] == NULL || pair->timer == NULL) {
        abort(); /* out of memory */
    }
    pair->next = link->pairs;
    link->pairs = pair;
    link->pair_count++;
    for (int i = 0; i < 2; i++) {
        bufferevent_setcb(pair->sides[i], pair_on_readable, pair_on_drained, pair_on_event, pair);
        bufferevent_setwatermark(pair->sides[i], EV_WRITE, BUFFER_MAX_BYTES / 2, 0);
    }
    pair_update(pair);
    if (bufferevent_socket_connect(pair->sides[1], (struct sockaddr *)&target, sizeof(target)) !=
        0) {
        pair_free(pair);
    }
}

static bool is_same(const struct condition *a, const struct condition *b)
{
    return a->blocked[0] == b->blocked[0] && a->blocked[1] == b->blocked[1] &&
           a->delay_ms == b->delay_ms && a->kib_per_s == b->kib_per_s;
}

static bool is_blocked(const struct condition *condition)
{
    return condition->blocked[0] || condition->blocked[1];
}

/* On Linux a listening socket that is shut down keeps its port and refuses connections until it
 * listens again. */
static void link_refuse(struct link *link)
{
    link->blocked_since = now_s();
    evconnlistener_disable(link->listener);
    shutdown(evconnlistener_get_fd(link->listener), SHUT_RDWR);
}

static void link_listen(struct link *link)
{
    if (listen(evconnlistener_get_fd(link->listener), SOMAXCONN) != 0) {
        perror("listen");
        abort(); /* the port is ours: cannot happen */
    }
    evconnlistener_enable(link->listener);
}

static void link_set(struct link *link, const struct condition *condition)
{
    bool was = is_blocked(&link->condition);
    bool is = is_blocked(condition);
    bool drop = was && !is && now_s() - link->blocked_since > HOLD_MAX_S;
    struct pair *next = NULL;

    link->condition = *condition;
    fprintf(stderr, "link from=%s to=%s cut=%d,%d delay_ms=%u kib_per_s=%u held=%u dropped=%s\n",
            link->from, link->to, condition->blocked[0], condition->blocked[1], condition->delay_ms,
            condition->kib_per_s, link->pair_count, drop ? "yes" : "no");
    for (struct pair *pair = link->pairs; pair != NULL; pair = next) {
        next = pair->next;
        if (drop) {
            pair_free(pair);
        } else {
            pair_update(pair);
        }
    }
    if (is && !was) {
        link_refuse(link);
    } else if (was && !is) {
        link_listen(link);
    }
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

/* Whether the two names of a line are a link's, either way round. */
static bool is_of(const struct link *link, const char *a, const char *b, bool *reversed)
{
    *reversed = strcmp(link->from, b) == 0 && strcmp(link->to, a) == 0;
    return *reversed || (strcmp(link->from, a) == 0 && strcmp(link->to, b) == 0);
}

/* What the lines say of a link; one that cannot be read is told and left out. */
static struct condition condition_of(const struct link *link, const char *cuts)
{
    struct condition condition = {0};

    for (const char *line = cuts; *line != '\0';
         line += strcspn(line, "\n"), line += *line == '\n') {
        char text[512];
        char a[NAME_BYTES];
        char b[NAME_BYTES];
        char verb[8];
        bool reversed = false;
        unsigned delay_ms = 0;
        unsigned kib_per_s = 0;

        (void)snprintf(text, sizeof(text), "%.*s", (int)strcspn(line, "\n"), line);
        /* NOLINTNEXTLINE(cert-err34-c): what is too big is a link as slow as any */
        int words = sscanf(text, "%100s %100s %7s %u %u", a, b, verb, &delay_ms, &kib_per_s);
        if (words < 2 || !is_of(link, a, b, &reversed)) {
            continue;
        }
        if (words == 2) {
            condition.blocked[0] = condition.blocked[1] = true;
        } else if (words == 3 && strcmp(verb, "oneway") == 0) {
            condition.blocked[reversed] = true;
        } else if (words == 5 && strcmp(verb, "slow") == 0) {
            condition.delay_ms = delay_ms;
            condition.kib_per_s = kib_per_s;
        } else {
            fprintf(stderr, "not understood line=\"%s\"\n", text);
        }
    }
    return condition;
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
        struct condition condition = condition_of(link, cuts);

        if (!is_same(&condition, &link->condition)) {
            link_set(link, &condition);
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
