/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The door's life: listeners, connections, the end of a turn, and the sweep that ends what does not
 * move.
 *
 * evhttp 2.1 reads and writes HTTP. It tells of a new connection only by asking for a bufferevent,
 * so a connection is "fresh" until the end of the turn that accepted it, when evhttp has made its
 * own object and gateway__exchange_open can take hold of the request that will be read
 * (exchange.c). Timeouts are the sweep's, not the bufferevents': a read timeout would end an event
 * stream whose client rightly says nothing, and one of evhttp's suspended reads has none.
 */
#include "gateway/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void connection_free(struct gateway_connection *connection)
{
    struct chp_http_door *door = connection->door;
    CHP_ASSERT(connection->exchange == NULL);
    CHP_ASSERT(door->connection_count > 0);
    chp_list_remove(&connection->node);
    chp_list_remove(&connection->touched);
    door->connection_count--;
    door->port.vtable->metrics_mutable(door->port.agent)->http_connections =
        (double)door->connection_count;
    free(connection);
}

static void connection_on_close(struct evhttp_connection *evcon, void *user)
{
    struct gateway_connection *connection = user;
    (void)evcon;
    if (connection->exchange != NULL) {
        gateway__exchange_lost(connection->exchange);
    }
    connection_free(connection);
}

static void identify_peer(struct gateway_connection *connection, int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX) {
        struct ucred peer;
        size = sizeof peer;
        connection->local = true;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
            connection->uid = peer.uid;
            connection->allowed = gateway__peer_allowed(&connection->door->policy, peer.uid);
        }
    } else {
        /* Result lines are small and must not wait for the client's delayed acknowledgement. */
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
}

/* evhttp has made its connection by now, or has given up and freed the bufferevent but for our
 * reference. */
static void connection_adopt(struct gateway_connection *connection)
{
    struct chp_http_door *door = connection->door;
    bufferevent_event_cb on_event = NULL;
    void *evcon = NULL;
    bufferevent_getcb(connection->bev, NULL, NULL, &on_event, &evcon);
    (void)bufferevent_decref(connection->bev);
    if (on_event == NULL) {
        connection_free(connection);
        return;
    }
    connection->evcon = evcon;
    connection->adopted = true;
    chp_list_append(&door->connections, &connection->node);
    evhttp_connection_set_closecb(connection->evcon, connection_on_close, connection);
    bufferevent_setwatermark(connection->bev, EV_READ, 0, GATEWAY_INPUT_MAX_BYTES);
    identify_peer(connection, bufferevent_getfd(connection->bev));
    if (door->connection_count > door->connections_max + GATEWAY_SURPLUS_MAX) {
        evhttp_connection_free(connection->evcon);
        return;
    }
    connection->surplus = door->connection_count > door->connections_max;
    gateway__exchange_open(connection);
}

static void adopt_fresh(struct chp_http_door *door)
{
    CHP_LIST_FOREACH_SAFE(&door->fresh, node, following)
    {
        chp_list_remove(node);
        connection_adopt(CHP_CONTAINER(node, struct gateway_connection, node));
    }
}

/* A new connection is about to be made. */
static struct bufferevent *door_on_accept(struct event_base *base, void *user)
{
    struct chp_http_door *door = user;
    struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (bev == NULL) {
        return NULL;
    }
    struct gateway_connection *connection = chp_alloc(sizeof *connection);
    connection->door = door;
    connection->bev = bev;
    bufferevent_incref(bev);
    chp_list_append(&door->fresh, &connection->node);
    door->connection_count++;
    door->port.vtable->metrics_mutable(door->port.agent)->http_connections =
        (double)door->connection_count;
    event_active(door->settle, EV_TIMEOUT, 1);
    return bev;
}

static void settle_over(struct chp_http_door *door)
{
    for (struct chp_list *node = chp_list_first(&door->over); node != NULL;
         node = chp_list_first(&door->over)) {
        struct gateway_exchange *exchange = CHP_CONTAINER(node, struct gateway_exchange, node);
        chp_list_remove(node);
        gateway__exchange_free(exchange);
    }
}

void gateway__touch(struct gateway_connection *connection)
{
    chp_list_remove(&connection->touched);
    chp_list_append(&connection->door->touched, &connection->touched);
    event_active(connection->door->settle, EV_TIMEOUT, 1);
}

static void connection_settle(struct gateway_connection *connection)
{
    struct gateway_exchange *exchange = connection->exchange;
    if (connection->doomed) {
        evhttp_connection_free(connection->evcon);
    } else if (exchange == NULL) {
        gateway__exchange_open(connection);
    } else if (exchange->stage == GATEWAY_BODY && exchange->refused_status != 0) {
        exchange->body_left = true;
        gateway__reply_refusal(exchange);
    }
}

/* The end of a turn: adopts, answers what was refused in the middle of a body, closes, frees. */
static void door_on_settle(evutil_socket_t fd, short what, void *user)
{
    struct chp_http_door *door = user;
    (void)fd;
    (void)what;
    adopt_fresh(door);
    for (struct chp_list *node = chp_list_first(&door->touched); node != NULL;
         node = chp_list_first(&door->touched)) {
        chp_list_remove(node);
        connection_settle(CHP_CONTAINER(node, struct gateway_connection, touched));
    }
    settle_over(door);
}

static bool exchange_moved(struct gateway_exchange *exchange, struct bufferevent *bev)
{
    size_t input = evbuffer_get_length(bufferevent_get_input(bev));
    size_t output = evbuffer_get_length(bufferevent_get_output(bev));
    bool moved = output != exchange->output_seen;
    /* A head must be whole in time, however slowly its bytes trickle in. */
    if (exchange->stage == GATEWAY_BODY) {
        moved = moved || input != exchange->input_seen;
    }
    /* Nothing to send: it is our turn, and nobody is slow. */
    if (output == 0 &&
        (exchange->stage == GATEWAY_HANDLING || exchange->stage == GATEWAY_STREAMING)) {
        moved = true;
    }
    exchange->input_seen = input;
    exchange->output_seen = output;
    return moved;
}

static void sweep_connection(struct gateway_connection *connection, uint64_t now_ms)
{
    struct chp_http_door *door = connection->door;
    struct gateway_exchange *exchange = connection->exchange;
    if (exchange == NULL) {
        return;
    }
    if (exchange_moved(exchange, connection->bev)) {
        exchange->progress_ms = now_ms;
    }
    if (now_ms - exchange->progress_ms >= door->idle_timeout_ms) {
        chp_log_debug("connection closed", CHP_S("reason", "nothing moved"),
                      CHP_I("stage", exchange->stage));
        evhttp_connection_free(connection->evcon);
        return;
    }
    if (exchange->stage == GATEWAY_STREAMING && exchange->heartbeat &&
        now_ms - exchange->written_ms >= door->heartbeat_ms) {
        (void)gateway__stream_write(exchange, ": still here\n\n", 14);
    }
}

static void door_on_sweep(evutil_socket_t fd, short what, void *user)
{
    struct chp_http_door *door = user;
    uint64_t now_ms = chp_clock_mono_ms();
    (void)fd;
    (void)what;
    CHP_LIST_FOREACH_SAFE(&door->connections, node, following)
    {
        sweep_connection(CHP_CONTAINER(node, struct gateway_connection, node), now_ms);
    }
    if (door->tcp != NULL) {
        (void)evconnlistener_enable(door->tcp);
    }
    if (door->local != NULL) {
        (void)evconnlistener_enable(door->local);
    }
}

/* Out of file descriptors, most likely: accepting again at once would spin. The sweep enables it
 * again. */
static void listener_on_error(struct evconnlistener *listener, void *user)
{
    (void)user;
    chp_log_warn("cannot accept a connection", CHP_S("error", strerror(errno)));
    (void)evconnlistener_disable(listener);
}

static int listen_on(struct chp_http_door *door, const struct sockaddr *address, int size,
                     const char *name, struct evconnlistener **listener, struct chp_error *error)
{
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    *listener = evconnlistener_new_bind(door->base, NULL, NULL, flags, 128, address, size);
    if (*listener == NULL) {
        return chp_error_set(error, CHP_EUNAVAILABLE, "cannot listen on %s: %s", name,
                             strerror(errno));
    }
    if (evhttp_bind_listener(door->http, *listener) == NULL) {
        evconnlistener_free(*listener);
        *listener = NULL;
        return chp_error_set(error, CHP_EINTERNAL, "cannot serve HTTP on %s", name);
    }
    evconnlistener_set_error_cb(*listener, listener_on_error);
    return 0;
}

/* "127.0.0.1:8080" or "[::1]:8080"; port 0 lets the kernel choose. Not evutil_parse_sockaddr_port,
 * which refuses 0. */
static bool parse_address(const char *text, struct sockaddr_storage *address, int *size)
{
    char host[INET6_ADDRSTRLEN] = "";
    unsigned port = 0;
    int end = 0;
    struct sockaddr_in *in = (struct sockaddr_in *)address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
    if (sscanf(text, "[%45[0-9a-fA-F:.]]:%5u%n", host, &port, &end) == 2 && text[end] == '\0' &&
        inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        *size = sizeof *in6;
    } else if (sscanf(text, "%15[0-9.]:%5u%n", host, &port, &end) == 2 && text[end] == '\0' &&
               inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        *size = sizeof *in;
    } else {
        return false;
    }
    return port <= 65535;
}

static unsigned bound_port(struct evconnlistener *listener)
{
    /* The port is at the same place in both families. */
    struct sockaddr_in6 address = {0};
    socklen_t size = sizeof address;
    static_assert(
        offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port), "");
    int rc = getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &size);
    CHP_ASSERT(rc == 0);
    return ntohs(address.sin6_port);
}

static int listen_tcp(struct chp_http_door *door, const char *text, struct chp_error *error)
{
    struct sockaddr_storage address = {0};
    int size = 0;
    if (!parse_address(text, &address, &size)) {
        return chp_error_set(
            error, CHP_EINVAL,
            "listen \"%s\" is not an address and a port, such as 127.0.0.1:8080 or "
            "[::1]:8080",
            text);
    }
    int rc = listen_on(door, (struct sockaddr *)&address, size, text, &door->tcp, error);
    if (rc == 0) {
        door->tcp_port = bound_port(door->tcp);
    }
    return rc;
}

/* A socket that nobody listens on any more is left over from a crash and in the way. */
static int remove_stale_socket(const char *path, const struct sockaddr_un *address,
                               struct chp_error *error)
{
    struct stat status;
    if (lstat(path, &status) != 0) {
        return 0;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return chp_error_set(error, CHP_EINVAL, "socket %s is there and is not a socket", path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (alive) {
        return chp_error_set(error, CHP_EBUSY, "socket %s is in use by another process", path);
    }
    (void)unlink(path);
    return 0;
}

static int listen_unix(struct chp_http_door *door, const char *path, struct chp_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return chp_error_set(error, CHP_EINVAL, "socket path %s is longer than %zu bytes", path,
                             sizeof address.sun_path - 1);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int rc = remove_stale_socket(path, &address, error);
    if (rc == 0) {
        rc =
            listen_on(door, (struct sockaddr *)&address, sizeof address, path, &door->local, error);
    }
    if (rc == 0) {
        door->socket_path = chp_strdup(path);
        /* Who may use it is decided by the peer's user, so that a uid can be allowed without a
         * group. */
        if (chmod(path, 0666) != 0) {
            rc = chp_error_set(error, CHP_EIO, "cannot set the mode of %s: %s", path,
                               strerror(errno));
        }
    }
    return rc;
}

static struct event *every(struct chp_http_door *door, uint64_t interval_ms,
                           event_callback_fn callback)
{
    struct event *event = event_new(door->base, -1, EV_PERSIST, callback, door);
    struct timeval interval = {(time_t)(interval_ms / 1000),
                               (suseconds_t)(interval_ms % 1000 * 1000)};
    CHP_ASSERT(event != NULL);
    CHP_ASSERT(event_add(event, &interval) == 0);
    return event;
}

struct chp_http_door *chp_http_door_new(const struct chp_http_config *config,
                                        const struct chp_agent_port *agent, struct chp_error *error)
{
    struct chp_http_door *door = chp_alloc(sizeof *door);
    door->base = config->base;
    door->port = *agent;
    door->connections_max = config->connections_max;
    door->body_max_bytes = config->body_max_bytes;
    door->json_max_bytes = config->json_max_bytes;
    door->idle_timeout_ms = config->idle_timeout_ms;
    door->exec_timeout_ms = GATEWAY_EXEC_TIMEOUT_MS;
    door->heartbeat_ms = GATEWAY_HEARTBEAT_MS;
    door->started_us = chp_clock_mono_us();
    chp_list_init(&door->connections);
    chp_list_init(&door->fresh);
    chp_list_init(&door->touched);
    chp_list_init(&door->over);
    chp_list_init(&door->lingering);
    gateway__policy_init(&door->policy, config);
    door->http = evhttp_new(config->base);
    door->settle = event_new(config->base, -1, 0, door_on_settle, door);
    CHP_ASSERT(door->http != NULL && door->settle != NULL);
    uint64_t sweep_ms = config->idle_timeout_ms / 4;
    door->sweep = every(door,
                        sweep_ms > 1000 ? 1000
                        : sweep_ms < 10 ? 10
                                        : sweep_ms,
                        door_on_sweep);
    evhttp_set_bevcb(door->http, door_on_accept, door);
    evhttp_set_max_headers_size(door->http, GATEWAY_HEADERS_MAX_BYTES);
    evhttp_set_max_body_size(door->http, GATEWAY_CHUNK_MAX_BYTES);
    int rc = 0;
    if (config->listen != NULL) {
        rc = listen_tcp(door, config->listen, error);
    }
    if (rc == 0 && config->socket_path != NULL) {
        rc = listen_unix(door, config->socket_path, error);
    }
    if (rc != 0) {
        chp_http_door_free(door);
        return NULL;
    }
    return door;
}

void chp_http_door_reload(struct chp_http_door *door, const struct chp_http_config *config)
{
    gateway__policy_deinit(&door->policy);
    gateway__policy_init(&door->policy, config);
}

static void collect_bound(struct evhttp_bound_socket *bound, void *user)
{
    struct evhttp_bound_socket **free_place = user;
    while (*free_place != NULL) {
        free_place++;
    }
    *free_place = bound;
}

void chp_http_door_stop(struct chp_http_door *door)
{
    struct evhttp_bound_socket *bound[3] = {NULL}; /* of TCP and the unix socket */
    evhttp_foreach_bound_socket(door->http, collect_bound, bound);
    for (size_t i = 0; bound[i] != NULL; i++) {
        evhttp_del_accept_socket(door->http, bound[i]);
    }
    door->tcp = door->local = NULL;
    door->stopping = true;
}

bool chp_http_door_busy(const struct chp_http_door *door)
{
    if (!chp_list_empty(&door->fresh) || !chp_list_empty(&door->touched)) {
        return true;
    }
    for (const struct chp_list *node = door->connections.next; node != &door->connections;
         node = node->next) {
        const struct gateway_connection *connection =
            CHP_CONTAINER((struct chp_list *)(uintptr_t)node, struct gateway_connection, node);
        const struct gateway_exchange *exchange = connection->exchange;
        if (exchange == NULL) {
            continue;
        }
        switch (exchange->stage) {
        case GATEWAY_HEAD: /* one that has had its answer need not ask again */
            if (!connection->served) {
                return true;
            }
            break;
        case GATEWAY_BODY:
        case GATEWAY_HANDLING:
        case GATEWAY_ANSWERED:
            return true;
        case GATEWAY_STREAMING:
        case GATEWAY_OVER:
            break;
        }
    }
    return false;
}

void chp_http_door_free(struct chp_http_door *door)
{
    if (door == NULL) {
        return;
    }
    adopt_fresh(door);
    if (door->socket_path != NULL) {
        (void)unlink(door->socket_path);
    }
    evhttp_free(door->http); /* and with it the listeners and connections */
    CHP_ASSERT(chp_list_empty(&door->connections));
    settle_over(door);
    gateway__linger_free_all(door);
    event_free(door->settle);
    event_free(door->sweep);
    gateway__policy_deinit(&door->policy);
    free(door->socket_path);
    free(door);
}

unsigned chp_http_door_port(const struct chp_http_door *door)
{
    return door->tcp_port;
}
