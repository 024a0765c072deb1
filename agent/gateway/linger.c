/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Closing a connection whose input has not all been read resets it, and the reset can reach the
 * client before it has read the answer. So the socket lives on under another descriptor: evhttp
 * shuts down its sending side when it closes, here the rest of the input is thrown away until the
 * client closes, or a bound is reached.
 */
#include "gateway/internal.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

struct lingering {
    struct chp_list node;
    struct event *event;
    int fd;
    size_t drained_bytes;
};

static void lingering_free(struct lingering *lingering)
{
    chp_list_remove(&lingering->node);
    event_free(lingering->event);
    (void)close(lingering->fd);
    free(lingering);
}

static void lingering_on_input(evutil_socket_t fd, short what, void *user)
{
    struct lingering *lingering = user;
    char rest[16 * 1024];
    ssize_t n = (what & EV_READ) != 0 ? recv(fd, rest, sizeof rest, MSG_DONTWAIT) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    lingering->drained_bytes += n > 0 ? (size_t)n : 0;
    if (n <= 0 || lingering->drained_bytes >= GATEWAY_LINGER_MAX_BYTES) {
        lingering_free(lingering);
    }
}

void gateway__linger(struct chp_http_door *door, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        return; /* out of descriptors: the client may see a reset */
    }
    struct lingering *lingering = chp_alloc(sizeof *lingering);
    struct timeval patience = {GATEWAY_LINGER_MS / 1000, GATEWAY_LINGER_MS % 1000 * 1000};
    lingering->fd = copy;
    lingering->event =
        event_new(door->base, copy, EV_READ | EV_PERSIST, lingering_on_input, lingering);
    CHP_ASSERT(lingering->event != NULL);
    CHP_ASSERT(event_add(lingering->event, &patience) == 0);
    chp_list_append(&door->lingering, &lingering->node);
}

void gateway__linger_free_all(struct chp_http_door *door)
{
    CHP_LIST_FOREACH_SAFE(&door->lingering, node, following)
    {
        lingering_free(CHP_CONTAINER(node, struct lingering, node));
    }
}
