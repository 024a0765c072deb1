/* SPDX-License-Identifier: AGPL-3.0-only */
/* Who wants to know: clients that wait for an operation, and those that follow events. */
#include "daemon/daemon.h"

#include <stdlib.h>

struct watcher {
    struct chp_list link;
    struct chp_uuid operation;
    chp_notice_fn *on_notice;
    chp_event_fn *on_event;
    void *user;
};

struct watchers {
    struct chp_list operations;
    struct chp_list events;
    struct chp_list
        *following; /* the walk under way goes on here: a callback may remove watchers */
};

struct watchers *watchers__new(void)
{
    struct watchers *watchers = chp_alloc(sizeof *watchers);
    chp_list_init(&watchers->operations);
    chp_list_init(&watchers->events);
    return watchers;
}

static void drop(struct watchers *watchers, struct watcher *watcher)
{
    if (watchers->following == &watcher->link) {
        watchers->following = watcher->link.next;
    }
    chp_list_remove(&watcher->link);
    free(watcher);
}

static void remove_from(struct watchers *watchers, struct chp_list *list, const void *user)
{
    struct chp_list *link = list->next;
    while (link != list) {
        struct watcher *watcher = CHP_CONTAINER(link, struct watcher, link);
        link = link->next;
        if (user == NULL || watcher->user == user) {
            drop(watchers, watcher);
        }
    }
}

void watchers__remove(struct watchers *watchers, const void *user)
{
    remove_from(watchers, &watchers->operations, user);
    remove_from(watchers, &watchers->events, user);
}

void watchers__free(struct watchers *watchers)
{
    watchers__remove(watchers, NULL);
    free(watchers);
}

static struct watcher *add(struct chp_list *list, void *user)
{
    struct watcher *watcher = chp_alloc(sizeof *watcher);
    watcher->user = user;
    chp_list_append(list, &watcher->link);
    return watcher;
}

void watchers__add(struct watchers *watchers, const struct chp_uuid *operation,
                   chp_notice_fn *on_notice, void *user)
{
    struct watcher *watcher = add(&watchers->operations, user);
    watcher->operation = *operation;
    watcher->on_notice = on_notice;
}

void watchers__add_events(struct watchers *watchers, chp_event_fn *on_event, void *user)
{
    add(&watchers->events, user)->on_event = on_event;
}

void watchers__notice(struct watchers *watchers, const struct chp_notice *notice)
{
    struct chp_list *link = watchers->operations.next;
    while (link != &watchers->operations) {
        struct watcher *watcher = CHP_CONTAINER(link, struct watcher, link);
        watchers->following = link->next;
        if (notice == NULL || chp_uuid_equal(&watcher->operation, &notice->operation)) {
            watcher->on_notice(watcher->user, notice);
        }
        link = watchers->following;
    }
    watchers->following = NULL;
}

bool watchers__follow_events(const struct watchers *watchers)
{
    return !chp_list_empty(&watchers->events);
}

void watchers__event(struct watchers *watchers, uint64_t number, const char *kind, const char *json)
{
    struct chp_list *link = watchers->events.next;
    while (link != &watchers->events) {
        struct watcher *watcher = CHP_CONTAINER(link, struct watcher, link);
        watchers->following = link->next;
        watcher->on_event(watcher->user, number, kind, json);
        link = watchers->following;
    }
    watchers->following = NULL;
}
