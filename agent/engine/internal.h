/* SPDX-License-Identifier: AGPL-3.0-only */
/* What the engine's files share. Nothing outside this folder includes it. */
#ifndef CHP_ENGINE_INTERNAL_H
#define CHP_ENGINE_INTERNAL_H

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "sequence/replica.h"
#include "wire/wire.h"

enum {
    ENGINE_MAGIC = 0x43687045,
    KEYS_RECENT_MAX =
        4096,             /* idempotency keys remembered here until they are surely in the store */
    BUSY_PAGE = 256,      /* ids of one CHP_LOAD_BUSY */
    WANT_RANGE_MAX = 256, /* operations asked for, or given, at a time */
    REPAIR_INTERVAL_US = 2000000,
    RUNNING_TOLD_AFTER_US = 1000000, /* short runs are told by their result alone */
    TRACKED_MAX =
        16384,       /* operations of this origin in flight held in memory; the rest is loaded */
    AGAIN_TOKEN = 1, /* of CHP_LOAD_OPERATION: is the id of one that arrives known? */
    VERSION_WITH_PAST = 2, /* of wire: items past, none, report, reported, reincarnate */
    REDOT_TOKEN = 2,       /* of CHP_LOAD_RANGE: operations that get other dots */
    GIVE_TOKEN = 1, /* of CHP_LOAD_RANGE: somebody asked for it, and is told what is not there */
    RUN_TOKEN = 3,  /* of CHP_LOAD_OPERATION: it is to run */
    ENTRIES_MAX = 64 * 1024, /* of all replicas in memory: about 1 KiB each */
};

/* Numbers of a stream that have been committed beyond the mark: messages settle in any order. */
struct settled_ahead {
    struct {
        uint64_t first;
        uint64_t last;
    } * ranges; /* sorted, disjoint, not touching */
    size_t count;
    size_t cap;
};

struct stream_in {
    uint64_t incarnation; /* of the sender */
    uint64_t accepted;    /* highest number taken in */
    uint64_t mark; /* everything up to here is settled, and written with this batch or before */
    uint64_t committed; /* the mark that may be told */
    struct settled_ahead ahead;
    uint64_t repair_asked_us;
    bool full;          /* it brings what is not known here yet, and no more of that can be kept */
    size_t write_index; /* where in the open batch its mark is written, perhaps */
};

struct stream_out {
    uint64_t last; /* highest number given */
    uint64_t mark; /* the receiver has committed up to here */
};

/* A dot that is asked of a peer: everything up to n. */
struct wanted {
    const char *resource;
    const char *origin;
    uint64_t incarnation;
    uint64_t first; /* not held */
    uint64_t n;
    bool held;
};

/* A peer's report that is being made true here: answered when everything in it is held. */
struct page {
    struct chp_arena arena;
    uint64_t upto;
    bool end;
    bool loading; /* the vectors held here */
    struct chp_report_entry *entries;
    size_t entry_count;
    struct wanted *wanted;
    size_t wanted_count;
    size_t wanted_cap;
    size_t missing; /* of wanted, not held */
    uint64_t asked_us;
};

/* What this site reports to a peer (report.c). */
struct reporting {
    uint64_t incarnation; /* the peer's life that has confirmed a whole round; 0 none */
    uint64_t arrival;     /* up to where */
    uint64_t cursor;      /* up to where in this round */
    uint64_t sent_us;     /* when the page on its way was sent */
    uint64_t round_us;    /* when the last round ended */
    size_t limit;         /* operations looked at for a page */
    bool due;             /* a round is to begin */
    bool round;           /* one is under way */
    bool loading;
    bool waiting; /* a page was sent and not confirmed */
    bool end;     /* it was the last of the round */
    bool stale;   /* something arrived here since the last round */
};

struct peer {
    const char *site;
    struct stream_in in[CHP_KEY_COUNT];
    struct stream_out out[CHP_KEY_COUNT];
    bool up;
    bool state_known; /* up or down was decided since start */
    bool heard;
    uint64_t since_ms;
    uint64_t heard_ms;
    uint64_t heard_us;
    uint64_t beat_sent_us; /* its clock, to be echoed */
    uint64_t round_trip_us;
    uint64_t beat_wall_ms; /* its wall clock, as of heard_us */
    uint32_t version; /* that both speak: the lowest until a beat was heard; 0 when there is none */
    uint32_t version_max; /* as its last beat says; 0 before */
    uint32_t version_min;
    char software[64];
    uint64_t incarnation;
    struct {
        uint64_t rows;
        uint64_t bytes;
    } undecoded;                 /* kept of it */
    struct chp_list undelivered; /* struct member_progress, by number */
    /* An earlier life of this database may have taken operations from it that are not held now
     * (life.c): those of its stream up to gap_mark, and what is given until its report is true. */
    bool gap_open;
    uint64_t gap_mark; /* 0: it was never asked whether there is a gap */
    struct reporting reporting;
    struct page *page;
};

/* An operation held here that has not ended here. */
struct pending {
    struct chp_list link; /* in resource.pending */
    struct chp_arena arena;
    const struct chp_operation *operation;
    struct chp_bytes item;
    enum chp_state state;
    uint32_t run;
    bool fetching;
    bool fetched;
    uint64_t started_us; /* running here since */
    bool running_told;   /* its origin knows that it runs */
    bool undo;           /* its undo is to run, or runs */
};

/* Dots that operations held here depend on and that are not held (causes.c). */
struct missing {
    const char *origin; /* interned */
    uint64_t incarnation;
    uint64_t n;
    uint64_t asked_us;
    uint64_t wait_us;  /* until the next is asked */
    unsigned asked;    /* how often */
    const char **none; /* peers that do not have the first of them either */
    size_t none_count;
    uint64_t none_last; /* nobody of those has anything up to there */
};

/* What is to run here, one after the other (converge.c). */
struct course {
    struct chp_arena arena; /* of the plan */
    struct chp_plan plan;
    size_t undo_at; /* the next ones */
    size_t run_at;
    struct chp_uuid single; /* the one of a plan that is just to run it */
    bool valid;
    bool scan; /* states of entries that have ended may have changed, too */
};

/* The next of a course. */
struct step {
    struct chp_entry *entry;
    bool undo;
};

/* What a member has acked of the operations of this site and incarnation (stable.c). */
struct acked {
    const char *site; /* interned */
    uint64_t n;       /* it holds all up to there */
    uint64_t incarnation;
    uint64_t own; /* and had made so many itself by then */
};

enum resource_state { RESOURCE_LOADING, RESOURCE_READY };

struct resource {
    struct chp_list lru; /* in engine.lru */
    enum resource_state state;
    struct chp_arena arena; /* of what row points to */
    bool exists;
    struct chp_resource_row row;
    struct chp_list pending; /* by arrival; with a replica: those that are in memory, or run */
    size_t pending_count;
    size_t pending_stored; /* level none: further ones that are only in the store */
    bool refilling;
    struct pending *running;     /* it, or what is in doubt, holds the resource */
    struct chp_replica *replica; /* level eventual */
    struct course course;        /* with a replica */
    uint64_t effect_last;        /* the highest of its entries */
    bool item_loading;           /* what runs next is read from the store */
    bool has_failed;             /* an entry has been held back */
    struct acked *acked;
    size_t acked_count;
    struct chp_vector stable; /* in arena */
    size_t
        look_at; /* how many entries there have to be before more is looked for to be forgotten */
    struct chp_list deferred; /* struct deferred: events that wait for the load */
    struct missing *missing;
    size_t missing_count;
    size_t write_index; /* where in the open batch its row is written, perhaps */
};

struct deferred {
    struct chp_list link;
    struct chp_arena arena; /* of what event points to, when it had to be copied */
    struct chp_event event;
};

struct tracked;

/* One member of an operation of this origin. */
struct member_progress {
    struct chp_list link; /* in peer.undelivered until the peer's mark passes number */
    struct tracked *tracked;
    const char *site;
    enum chp_state state;
    uint32_t run;
    uint64_t number;
    bool held; /* the site has said that it holds the operation, however it ended */
};

/* An operation of this origin that not every member has answered. */
struct tracked {
    struct chp_list lru; /* in engine.tracked_lru */
    struct chp_arena arena;
    struct chp_uuid id;
    uint64_t incarnation; /* of its dot, as is n */
    uint64_t n;
    const char *resource;
    enum chp_level level;
    struct member_progress *members;
    size_t member_count;
    uint64_t entered_us; /* by the monotonic clock here, modulo 2^64 */
    bool completed;
    bool kept;  /* what waited for its load is answered: it is not dropped before */
    bool spent; /* it is to be dropped then */
    struct chp_listener *listeners; /* the first one, if any, is who asked first */
    size_t listener_count;
    uint64_t listener_place; /* of the last of the others; 0: there is none */
};

struct recent_key {
    struct chp_list link;
    struct chp_sha256 hash;
    struct chp_uuid operation;
    size_t name_len;
    uint8_t name[]; /* principal NUL key */
};

struct chp_engine {
    uint32_t magic;
    struct chp_engine_config config;
    bool started;
    bool regressed; /* nothing is done any more: the daemon makes a new engine */
    uint64_t incarnation;
    struct chp_arena start_arena; /* of what the start knows and finds */
    struct chp_high_water high_water;
    const char *regressed_reason; /* of the engine before, or NULL */
    uint64_t serial;              /* that the database had */
    const char *database;         /* which it is */
    bool judged;                  /* life__judge was asked */
    const char *life_reason;      /* a new life begins: why, and after which incarnation */
    uint64_t life_before;
    uint64_t arrived_us; /* when the last operation arrived */
    uint64_t event_last;
    uint64_t reply_last;
    bool forgetting;          /* what is old: a batch is on its way */
    uint64_t forget_us;       /* not before */
    uint64_t steady_since_us; /* the trusted clock has not jumped; 0 not known yet */
    uint64_t clock_ahead_ms;  /* of the monotonic one, at the last tick */
    uint64_t lagged_us;       /* when the clock was last seen behind; 0 never */
    uint64_t resolved;        /* executions whose doubt has ended since the start */
    struct peer *peers;
    struct chp_map *resources;
    struct chp_list lru;
    struct chp_map *tracked; /* by id */
    struct chp_list tracked_lru;
    struct chp_map *tracked_loading; /* id -> struct chp_list * of deferred acks */
    struct chp_list key_waiting;     /* struct deferred: requests whose key is being looked up */
    struct chp_list again;           /* struct deferred: operations whose id is looked up */
    struct chp_list redots;          /* struct deferred: demands for other dots */
    struct chp_map *keys;
    struct chp_list keys_order;
    struct chp_map *names; /* interned origins */
    struct chp_matrices *matrices;
    size_t entry_count;    /* of all replicas */
    struct chp_list voids; /* struct voiding: operations that failed everywhere */
    /* Resources with work that are only in the store: scanned page by page while there is room. */
    bool busy_left;
    bool busy_loading;
    char *busy_after;
};

/* keys.c: idempotency keys that were given lately (design 4.1) */
const struct recent_key *keys__find(const struct chp_engine *engine, const char *principal,
                                    const char *key);
void keys__add(struct chp_engine *engine, const char *principal, const char *key,
               const struct chp_sha256 *hash, const struct chp_uuid *operation);

/* engine.c */
struct peer *engine__peer(const struct chp_engine *engine, const char *site);
bool engine__is_known(const struct chp_engine *engine, const char *site);
const char *engine__intern(struct chp_engine *engine, const char *name);
uint64_t engine__trusted_wall_ms(const struct chp_engine *engine, const struct chp_now *now);
/* Whether it lags what every peer that was heard confirms by more than max_skew. */
bool engine__clock_lags(const struct chp_engine *engine, const struct chp_now *now);
/* Design 4.2: whether the stamp leads the trusted clock by more than max_skew. */
bool engine__leads(const struct chp_engine *engine, struct chp_stamp stamp,
                   const struct chp_now *now);
bool engine__contains(const char *const *sites, size_t count, const char *site);

void engine__free_deferred(struct deferred *deferred);

/* resource.c */
struct resource *resource__get(const struct chp_engine *engine, const char *id);
/* Puts event behind the load of id, which is asked for unless it is under way. */
void resource__defer(struct chp_engine *engine, const char *id, const struct chp_event *event,
                     struct chp_effects *effects);
void resource__touch(struct chp_engine *engine, struct resource *resource);
/* Forgets the resources used longest ago until there are at most resources_max. */
void resource__evict(struct chp_engine *engine);
void resource__free(struct resource *resource);
/* Copies row into the resource. */
void resource__set_row(struct chp_engine *engine, struct resource *resource,
                       const struct chp_resource_row *row);
/* Makes the row from the first operation that is known of the resource: its creation, or one that
 * came before it, which leaves open what created it. */
void resource__create(struct chp_engine *engine, struct resource *resource,
                      const struct chp_operation *operation);
/* A write of the row as it is now. */
void resource__write(struct resource *resource, struct chp_effects *effects);
/* Takes an operation into the list, copying item; when the list is full, it stays in the store
 * only. */
void resource__add_pending(struct chp_engine *engine, struct resource *resource,
                           struct chp_bytes item, enum chp_state state, uint32_t run);
/* The same, whatever room there is. */
void resource__keep_pending(struct resource *resource, struct chp_bytes item, enum chp_state state,
                            uint32_t run);
/* Operations have other dots, or the level is another one: all that is known is read again. */
void resource__reload(struct chp_engine *engine, struct resource *resource,
                      struct chp_effects *effects);
/* Takes an operation that is held into the replica, to be executed here or not; nothing at level
 * none. CHP_EINVAL: it is not a possible operation. */
int resource__take(struct chp_engine *engine, struct resource *resource,
                   const struct chp_operation *operation, bool executes,
                   struct chp_error *error) CHP_MUST_CHECK;
/* The vector of what is held has moved on otherwise: what waited may run. */
void resource__advance(struct resource *resource);
struct pending *resource__find_pending(struct resource *resource, const struct chp_uuid *id);
/* What was loaded while its undo ran, or NULL. */
struct pending *resource__undoing(struct resource *resource);
void resource__remove_pending(struct resource *resource, struct pending *pending);
bool resource__busy(const struct resource *resource);
/* Advances the row for an operation that is now held here. */
void resource__hold(struct chp_engine *engine, struct resource *resource,
                    const struct chp_operation *operation);

/* causes.c: operations that others depend on (design 4.4). Notes that resource lacks everything up
 * to dot, and asks for it. */
void causes__want(struct chp_engine *engine, struct resource *resource, const struct chp_dot *dot,
                  const struct chp_now *now, struct chp_effects *effects);
/* Everything that operation depends on and that is not held. */
void causes__want_all(struct chp_engine *engine, struct resource *resource,
                      const struct chp_operation *operation, const struct chp_now *now,
                      struct chp_effects *effects);
/* Asks the next member for what is still missing. */
void causes__tick(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
                  struct chp_effects *effects);
void causes__free(struct resource *resource);

/* report.c: what members hold of their common resources (design 4.7) */
void report__tick(struct chp_engine *engine, struct peer *peer, const struct chp_now *now,
                  struct chp_effects *effects);
void report__loaded(struct chp_engine *engine, const struct chp_load *load,
                    const struct chp_now *now, struct chp_effects *effects);
/* An operation of resource is held now: pages that wanted it go on. */
void report__held(struct chp_engine *engine, const struct resource *resource,
                  struct chp_effects *effects);
/* An operation was stored here: there is something to report. */
void report__arrived(struct chp_engine *engine);
/* The peer lives anew: it is told of everything. */
void report__restart(struct peer *peer);
void report__deinit(struct peer *peer);

/* redot.c: dots that were given twice */
/* Whether the vector has dots of dot's origin of another incarnation. */
bool redot__has_other_lives(const struct chp_vector *vector, const struct chp_dot *dot);
/* origin gave a dot again that is known here with another operation. */
void redot__demand(struct chp_engine *engine, const char *origin,
                   const struct chp_operation *operation, struct chp_effects *effects);
/* An operation arrives whose id is known here by the dot known: the later incarnation's dot is its
 * dot from now on. */
void redot__follow(struct chp_engine *engine, struct resource *resource,
                   const struct chp_operation *operation, struct chp_bytes item,
                   const struct chp_dot *known, struct chp_effects *effects);
void redot__loaded(struct chp_engine *engine, const struct chp_load *load,
                   const struct chp_now *now, struct chp_effects *effects);

/* life.c: lives of the database (design section 4, incarnations) */
/* Judges what START has loaded. True: a new incarnation is being written, and START loads again. */
bool life__judge(struct chp_engine *engine, const struct chp_load *load,
                 struct chp_effects *effects);
/* The event of a new life, when it has started. */
void life__tell(struct chp_engine *engine, const struct chp_now *now, struct chp_effects *effects);
/* Notices that the database went back in time while this engine lives. */
void life__regressed(struct chp_engine *engine, const char *reason, uint64_t incarnation,
                     struct chp_effects *effects);
/* A peer knows of an earlier life of this site: what that has taken from it is not known. */
void life__earlier(struct peer *peer, struct chp_effects *effects);
void life__close_gap(struct peer *peer, struct chp_effects *effects);
/* Whether an earlier life may have run this operation, which has just arrived. past: as what it was
 * given, or NULL when it came by its own stream. */
bool life__doubtful(const struct chp_engine *engine, const struct chp_event *event,
                    const struct chp_operation *operation, const struct chp_past *past);
/* The ack of an execution here that is in doubt. */
struct chp_ack life__doubt(const struct chp_engine *engine, const struct chp_operation *operation,
                           uint32_t run, const struct chp_now *now);

/* converge.c: from what is held to what runs (design section 6, the plan). */
/* An operation is in the replica now. sequential: it has seen all that was held before. */
void converge__added(struct resource *resource, const struct chp_operation *operation,
                     bool sequential);
/* Something else has changed that the plan depends on. */
void converge__changed(struct resource *resource);
/* What is to run next; false: nothing. Brings states and the row up to date with the plan. */
bool converge__next(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
                    struct chp_effects *effects, struct step *step);
/* The next has run, and had its effect. */
void converge__stepped(struct resource *resource);
/* The row as the replica is now; written when it has changed. */
void converge__show(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
                    struct chp_effects *effects);
void converge__free(struct resource *resource);
/* Notes with what state an operation begins here. */
void converge__begin(const struct chp_engine *engine, struct resource *resource,
                     const struct chp_operation *operation, const struct chp_ack *ack);
/* Notes what is known, or in doubt, of an execution in an earlier life of the database. */
void converge__recalled(const struct chp_engine *engine, struct resource *resource,
                        const struct chp_operation *operation, const struct chp_now *now,
                        struct chp_ack *ack);
/* Notes how a run has ended: effect, held back, whether it ran out of order. */
void converge__ended(const struct chp_engine *engine, struct resource *resource,
                     const struct chp_operation *operation, const struct chp_now *now,
                     struct chp_ack *ack);
/* The entry of an operation here, or NULL. */
struct chp_entry *converge__entry(const struct chp_engine *engine, const char *resource,
                                  const struct chp_uuid *operation);
/* Of an execution here that is written: what the replica knows of it. */
void converge__fill(const struct chp_engine *engine, struct chp_execution_row *row);

/* outcome.c: operations that failed (design section 6): everywhere, or only here. */
/* All members have failed: it is voided, when this step is over. */
void outcome__failed_everywhere(struct chp_engine *engine, const char *resource,
                                const struct chp_uuid *operation);
/* It succeeded at site: this site, where it failed, tries again. */
void outcome__done_elsewhere(struct chp_engine *engine, const char *resource,
                             const struct chp_uuid *operation, const struct chp_now *now,
                             struct chp_effects *effects);
/* A void operation is held now with all its causes: its target's executions are voided. */
void outcome__voided(struct resource *resource, const struct chp_entry *entry,
                     struct chp_effects *effects);
void outcome__issue_voids(struct chp_engine *engine, const struct chp_now *now,
                          struct chp_effects *effects);
/* Sets when an entry that failed is tried again, if that is to be: after ever longer. */
void outcome__retry_later(struct chp_entry *entry, const struct chp_now *now);
void outcome__tick(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
                   struct chp_effects *effects);
void outcome__deinit(struct chp_engine *engine);

/* rebuild.c: what makes the state of a replica runs again, since a person said so. Why it can't be,
 * or NULL. */
const char *rebuild__start(struct chp_engine *engine, const struct chp_event *event,
                           struct resource *resource, struct chp_effects *effects);

/* stable.c: what is not needed any more is forgotten (design 4.8) */
void stable__acked(struct chp_engine *engine, const struct tracked *tracked,
                   const struct chp_ack *ack);
/* Up to which number the operations of this site are stable, as one with this context may say. */
uint64_t stable__own(struct chp_engine *engine, struct resource *resource,
                     const struct chp_vector *context);
/* An operation is in the sequence that says what is stable. */
void stable__learn(struct chp_engine *engine, struct resource *resource,
                   const struct chp_operation *operation);
/* Forgets what can go of a replica at rest, and reads it again; false: nothing. */
bool stable__forget(struct chp_engine *engine, struct resource *resource,
                    struct chp_effects *effects);

/* run.c: starts the next operation of the resource if one may run. */
void run__next(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
               struct chp_effects *effects);

/* What an earlier life of the database has left is in doubt: it may have ended in the time that was
 * lost. */
void run__doubt(struct chp_engine *engine, struct resource *resource, struct pending *pending,
                const struct chp_now *now, struct chp_effects *effects);
/* The operation that runs next has been read. */
void run__item_loaded(struct chp_engine *engine, const struct chp_load *load,
                      const struct chp_now *now, struct chp_effects *effects);

/* Tells the origin of a run that takes long that it has started. */
void run__tell(struct chp_engine *engine, struct resource *resource, const struct chp_now *now,
               struct chp_effects *effects);

/* stream.c */
/* Puts an operation (is_operation) or an item into the stream to site and returns its number. */
uint64_t stream__put(struct peer *peer, enum chp_key key, const struct chp_uuid *operation,
                     struct chp_bytes item, struct chp_effects *effects);
/* Sends an unnumbered item; false when it is too big for one. */
bool stream__control(struct peer *peer, const struct chp_item *item, struct chp_effects *effects);
/* Whether a numbered item is the next of its stream. If not it is a repetition (settle it) or there
 * is a gap (settle it, unseen, and ask for repair; so is an unknown one for which there is no room:
 * the stream stops before it). */
enum stream_verdict { STREAM_NEXT, STREAM_REPEATED, STREAM_GAP };
enum stream_verdict stream__accept(struct chp_engine *engine, const struct chp_event *event,
                                   struct chp_effects *effects);
/* A message told what number its stream goes on with: if something before that is missing, asks for
 * it. */
void stream__expect(struct peer *peer, const struct chp_event *event, struct chp_effects *effects);
/* The stream goes on behind mark: an earlier life of this database took what is before. */
void stream__skip(struct peer *peer, enum chp_key key, uint64_t mark, struct chp_effects *effects);
/* The item of event is safe with this batch. */
void stream__settle(struct chp_engine *engine, const struct chp_event *event,
                    struct chp_effects *effects);
/* Keeps the item of event, of a kind that is not known here yet. */
void stream__keep(struct chp_engine *engine, const struct chp_event *event,
                  struct chp_effects *effects);
void stream__deinit(struct peer *peer);

/* tracked.c */
struct tracked *tracked__get(struct chp_engine *engine, const struct chp_uuid *id);
/* members are states at admission; all strings are copied. */
struct tracked *tracked__add(struct chp_engine *engine, const struct chp_operation *operation,
                             const struct chp_listener *listeners, size_t listener_count,
                             const struct chp_now *now);
void tracked__set_number(struct chp_engine *engine, struct tracked *tracked, const char *site,
                         uint64_t number);
/* The answer of one member: write, notice, and completion when it was the last. */
void tracked__answer(struct chp_engine *engine, struct tracked *tracked, const struct chp_ack *ack,
                     const struct chp_now *now, struct chp_effects *effects);
/* Whether it has failed at a site, as far as is known. */
bool tracked__failed_at(const struct tracked *tracked, const char *site);
void tracked__free(struct tracked *tracked);
/* The request of an operation of this origin came again, and says where to be told of it. */
void tracked__repeat(struct chp_engine *engine, const struct chp_uuid *id,
                     const struct chp_event *event, struct chp_effects *effects);
/* Puts event (an ack, a repeated request, or the end of a run: copied) behind the load of the
 * operation; event NULL only loads it. */
void tracked__defer(struct chp_engine *engine, const struct chp_uuid *id,
                    const struct chp_event *event, struct chp_effects *effects);
/* The load is in: makes it tracked (NULL when it is not known here) and steps the events that
 * waited. */
void tracked__loaded(struct chp_engine *engine, const struct chp_load *load,
                     const struct chp_now *now, struct chp_effects *effects);
void tracked__evict(struct chp_engine *engine);
/* The peer's mark of the operation stream passed: tell watchers. */
void tracked__delivered(struct peer *peer, struct chp_effects *effects);

/* reply.c: rows of what clients of the AMQP door are told */
/* Does nothing when request has no reply_to. */
void reply__accepted(struct chp_engine *engine, const struct chp_request *request,
                     const struct chp_reply *reply, const struct chp_now *now,
                     struct chp_effects *effects);
/* Who is to be told of it; reply_to is NULL when it says nobody. */
struct chp_listener reply__listener(const struct chp_request *request);
/* To each listener, if it is something that they are told. */
void reply__notice(struct chp_engine *engine, const struct chp_listener *listeners, size_t count,
                   const struct chp_notice *notice, const struct chp_now *now,
                   struct chp_effects *effects);
/* Answers the repeated request of event with all that load says. */
void reply__repeated(struct chp_engine *engine, const struct chp_event *event,
                     const struct chp_load *load, struct chp_effects *effects);

/* forget.c: what is forgotten for its age */
void forget__tick(struct chp_engine *engine, const struct chp_now *now,
                  struct chp_effects *effects);
void forget__loaded(struct chp_engine *engine, const struct chp_load *load,
                    const struct chp_now *now);

/* journal.c: rows of events */
struct journal_entry {
    const char *kind;
    const char *resource;
    const struct chp_uuid *operation;
    const char *site;
    const char *data; /* JSON object, "" for {} */
};
void journal__add(struct chp_engine *engine, const struct journal_entry *entry,
                  const struct chp_now *now, struct chp_effects *effects);
/* Appends text as a JSON string with its quotes. */
void journal__add_string(struct chp_buf *json, const char *text);
void journal__add_strings(struct chp_buf *json, const char *const *texts, size_t count);
/* Copies what was built into the batch's arena. */
const char *journal__take(struct chp_buf *json, struct chp_effects *effects);

/* one file per event */
void engine__on_start(struct chp_engine *engine, const struct chp_event *event,
                      struct chp_effects *effects);
void engine__on_loaded(struct chp_engine *engine, const struct chp_event *event,
                       struct chp_effects *effects);
void engine__on_started(struct chp_engine *engine, const struct chp_load *load,
                        const struct chp_now *now, struct chp_effects *effects);
void engine__on_busy(struct chp_engine *engine, const struct chp_load *load,
                     struct chp_effects *effects);
void engine__on_key(struct chp_engine *engine, const struct chp_event *event,
                    struct chp_effects *effects);
void engine__on_request(struct chp_engine *engine, const struct chp_event *event,
                        struct chp_effects *effects);
void engine__on_item(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects);
void engine__on_operation(struct chp_engine *engine, const struct chp_event *event,
                          struct chp_effects *effects);
void engine__on_ack(struct chp_engine *engine, const struct chp_event *event,
                    struct chp_effects *effects);
void engine__on_want(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects);
void engine__on_none(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects);
void engine__on_report(struct chp_engine *engine, const struct chp_event *event,
                       struct chp_effects *effects);
void engine__on_reported(struct chp_engine *engine, const struct chp_event *event,
                         struct chp_effects *effects);
void engine__on_resource_item(struct chp_engine *engine, const struct chp_event *event,
                              struct chp_effects *effects);
void engine__on_range(struct chp_engine *engine, const struct chp_load *load,
                      struct chp_effects *effects);
/* Asks the store whether the id of the operation that arrives is known. */
void engine__look_up(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects);
void engine__on_looked_up(struct chp_engine *engine, const struct chp_load *load,
                          const struct chp_now *now, struct chp_effects *effects);
void engine__on_reincarnate(struct chp_engine *engine, const struct chp_event *event,
                            struct chp_effects *effects);
void engine__on_marks(struct chp_engine *engine, const struct chp_event *event,
                      struct chp_effects *effects);
void engine__on_beat(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects);
void engine__on_fetched(struct chp_engine *engine, const struct chp_event *event,
                        struct chp_effects *effects);
void engine__on_executed(struct chp_engine *engine, const struct chp_event *event,
                         struct chp_effects *effects);
void engine__on_resolve(struct chp_engine *engine, const struct chp_event *event,
                        struct chp_effects *effects);
/* Goes on with it when the operation has been read. */
void engine__resolve(struct chp_engine *engine, const struct chp_event *event,
                     const struct chp_load *load, struct chp_effects *effects);
void engine__on_tick(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects);
/* Asks for the next page of busy resources if there is room. */
void engine__scan_busy(struct chp_engine *engine, struct chp_effects *effects);
/* Answers a request with an error. */
void engine__refuse(const struct chp_event *event, int code, const char *text,
                    struct chp_effects *effects);
/* Rows and stream entries of an operation of this origin for its members. */
void engine__deliver(struct chp_engine *engine, struct tracked *tracked,
                     const struct chp_operation *operation, struct chp_bytes item,
                     struct chp_effects *effects);
/* An operation of this site enters: it is stored, given to its members, and begins here. listeners:
 * who asked, or none. */
void engine__enter(struct chp_engine *engine, struct resource *resource,
                   const struct chp_operation *operation, struct chp_bytes item,
                   const struct chp_listener *listener, const struct chp_now *now,
                   struct chp_effects *effects);
/* The stamp of an operation that enters now (design 4.2). */
struct chp_stamp engine__next_stamp(const struct chp_engine *engine,
                                    const struct resource *resource, const struct chp_now *now);
/* The operation's item, in the batch's arena. */
int engine__encode(const struct chp_operation *operation, struct chp_effects *effects,
                   struct chp_bytes *item, struct chp_error *error) CHP_MUST_CHECK;
/* A copy in arena, but for the site: what a batch writes of an ack must outlive the event. */
struct chp_ack engine__copy_ack(const struct chp_ack *ack, struct chp_arena *arena);
/* An ack into the stream to origin, which must be a known peer. */
void engine__send_ack(struct chp_engine *engine, const char *origin, const struct chp_ack *ack,
                      struct chp_effects *effects);
/* The answer of this site's own execution, to where it belongs. */
void engine__answer(struct chp_engine *engine, const struct chp_operation *operation,
                    const struct chp_ack *ack, const struct chp_now *now,
                    struct chp_effects *effects);
/* An execution here has come to an end, or into doubt: its answer and its event. */
void engine__conclude(struct chp_engine *engine, const struct chp_operation *operation,
                      const struct chp_ack *ack, const struct chp_now *now,
                      struct chp_effects *effects);

#endif
