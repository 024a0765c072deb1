/* SPDX-License-Identifier: AGPL-3.0-only */
/* Intrusive doubly linked list. A node is in at most one list; an unlinked node points to itself or
 * is zeroed. */
#ifndef CHP_BASE_LIST_H
#define CHP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct chp_list {
    struct chp_list *prev;
    struct chp_list *next;
};

#define CHP_CONTAINER(pointer, type, member)                                                       \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void chp_list_init(struct chp_list *list)
{
    list->prev = list->next = list;
}

static inline bool chp_list_empty(const struct chp_list *list)
{
    return list->next == list || list->next == NULL;
}

static inline void chp_list_append(struct chp_list *list, struct chp_list *node)
{
    node->prev = list->prev;
    node->next = list;
    list->prev->next = node;
    list->prev = node;
}

static inline void chp_list_prepend(struct chp_list *list, struct chp_list *node)
{
    chp_list_append(list->next, node);
}

/* Safe on a node that is in no list. */
static inline void chp_list_remove(struct chp_list *node)
{
    if (node->next != NULL) {
        node->prev->next = node->next;
        node->next->prev = node->prev;
    }
    node->prev = node->next = NULL;
}

/* First node, NULL when empty. */
static inline struct chp_list *chp_list_first(const struct chp_list *list)
{
    /* The analyzer does not see that removing a node changed its neighbours. */
    return chp_list_empty(list) ? NULL : list->next; /* NOLINT(clang-analyzer-unix.Malloc) */
}

/* NOLINTBEGIN(bugprone-macro-parentheses): names that are declared cannot have any */
/* Removes the first node and returns it, NULL when empty: for loops that free what they take. */
static inline struct chp_list *chp_list_pop(struct chp_list *list)
{
    struct chp_list *node = chp_list_first(list);
    if (node != NULL) {
        list->next = node->next;
        node->next->prev = list;
        node->prev = node->next = NULL;
    }
    return node;
}

#define CHP_LIST_FOREACH_SAFE(list, node, following)                                               \
    for (struct chp_list *node = (list)->next, *following = node->next; node != (list);            \
         node = following, following = node->next)
/* NOLINTEND(bugprone-macro-parentheses) */

#endif
