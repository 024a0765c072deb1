/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The engine of one site: what happens to operations, without any I/O (design sections 4 and 6).
 *
 *     chp_engine_step(engine, event, effects)
 *
 * takes one event and appends to effects what must follow. Time and randomness come in with the
 * event: same events, same effects. Effects are ordered: everything in effects->batch is one
 * transaction; what is in effects->after happens only when it has committed. So nothing is
 * published, executed or answered before its commit (design 4.2).
 *
 * What the engine holds in memory is a cache over the store: resources with something in flight,
 * loaded on demand. When a batch fails, the daemon throws the engine away and makes a new one;
 * messages that were not acked come again, runs are resumed, requests are offered again with their
 * keys.
 */
#ifndef CHP_ENGINE_ENGINE_H
#define CHP_ENGINE_ENGINE_H

#include "port/driver.h"
#include "port/store.h"
#include "scope/scope.h"

struct chp_engine;

struct chp_engine_peer {
    const char *site;
};

/* Borrowed for the engine's life. */
struct chp_engine_config {
    const char *site;
    const struct chp_engine_peer *peers; /* every other known site */
    size_t peer_count;
    uint64_t down_after_ms; /* not heard for so long: down */
    uint64_t max_skew_ms;   /* design 4.2 */
    uint64_t events_kept_ms;
    size_t resources_max;   /* cached */
    size_t pending_max;     /* operations of one resource held in memory */
    size_t operations_kept; /* of a resource, at least, though they are not needed (design 4.8) */
    uint64_t map_seed;
};

struct chp_engine *chp_engine_new(const struct chp_engine_config *config);
void chp_engine_free(struct chp_engine *engine);

/* What is known, outside the database, of the life that it had (design section 4, incarnations):
 * the daemon's high-water file. */
struct chp_high_water {
    bool found;
    const char *doubt; /* why it can't be relied on: it was copied, or is damaged; or NULL */
    uint64_t incarnation;
    uint64_t event_last;           /* highest number of an event */
    uint64_t serial;               /* of the last batch that is known to have committed */
    const char *database;          /* which one it was */
    const struct chp_taken *taken; /* of each peer's stream of operations */
    size_t taken_count;
};

struct chp_taken {
    const char *site;
    uint64_t incarnation; /* of site */
    uint64_t mark;        /* everything up to there was committed here */
};

struct chp_now {
    uint64_t wall_ms;
    uint64_t mono_us;
};

enum chp_event_kind {
    CHP_EVENT_START,    /* first; loads what is not per resource */
    CHP_EVENT_LOADED,   /* a load of an earlier batch has its result */
    CHP_EVENT_REQUEST,  /* through a door */
    CHP_EVENT_ITEM,     /* from another site */
    CHP_EVENT_MARKS,    /* low-water marks from another site, with each message */
    CHP_EVENT_BEAT,     /* a heartbeat arrived */
    CHP_EVENT_FETCHED,  /* the files of an operation are here, or nowhere */
    CHP_EVENT_EXECUTED, /* a run ended */
    CHP_EVENT_RESOLVE,  /* a person says what became of an execution in doubt here */
    CHP_EVENT_TICK,     /* about every second */
    CHP_EVENT_ANSWER,   /* the engine's own: an execution here has another state */
};

struct chp_event {
    enum chp_event_kind kind;
    struct chp_now now;
    union {
        struct {
            uint64_t incarnation_proposed; /* for a new life of the database; a higher one is taken
                                              if it has to be */
            const struct chp_high_water *high_water; /* valid until CHP_AFTER_STARTED */
            const char *regressed;                   /* what CHP_AFTER_REGRESSED said, or NULL */
        } start;
        const struct chp_load *loaded;
        struct {
            uint64_t ticket;                   /* comes back in the reply */
            bool key_checked;                  /* the engine's own: false */
            const struct chp_request *request; /* valid until the reply's effect */
        } request;
        struct {
            const char *from;
            uint64_t incarnation; /* of from */
            enum chp_key key;
            uint64_t number;             /* 0: not numbered */
            bool repeated;               /* the engine's own: false */
            uint64_t delivery;           /* comes back in CHP_AFTER_SETTLE, exactly once */
            const struct chp_item *item; /* operation, ack, want or repair; valid until then, as
                                            bytes is. NULL: the item was malformed or refused by the
                                            door and only its number counts, or unknown */
            struct chp_bytes bytes;
            bool unknown; /* of a kind that this version does not know: kept if it is numbered */
            uint64_t
                stored; /* it was kept so, and is known now: chp_undecoded_row.arrival; else 0 */
        } item;
        struct {
            const char *from;
            uint64_t incarnation; /* of from */
            const struct chp_mark *marks;
            size_t count;
            enum chp_key key; /* of the message that they came with */
            uint64_t next; /* what follows in its stream has this number; 0: it is not a stream */
        } marks;
        struct {
            const char *from;
            uint64_t incarnation;
            const struct chp_beat *beat;
        } beat;
        struct {
            struct chp_uuid operation;
            const char *resource;
            int code; /* 0, or CHP_ENOTFOUND */
        } fetched;
        struct {
            const char *resource;
            const struct chp_completion *completion;
        } executed;
        struct {
            uint64_t ticket; /* comes back in CHP_AFTER_RESOLVED, once */
            struct chp_uuid operation;
            enum chp_resolution resolution;
            const char *principal; /* valid until then */
            uint64_t as_of;        /* the engine's own: 0 */
        } resolve;
        const struct chp_ack *answer;
    };
};

enum chp_after_kind {
    CHP_AFTER_REPLY,    /* to a request */
    CHP_AFTER_RESOLVED, /* the answer to a CHP_EVENT_RESOLVE */
    CHP_AFTER_SETTLE, /* an inbound item is safe: its message may be acked when all its items are */
    CHP_AFTER_DEAD,   /* an inbound item can't be processed: dead-letter it, then settle */
    CHP_AFTER_SEND,   /* a numbered item is in the store and may go */
    CHP_AFTER_CONTROL,    /* an unnumbered item for one site, now or never */
    CHP_AFTER_FETCH,      /* bring the files of an operation here */
    CHP_AFTER_RUN,        /* start (or resume) an operation here */
    CHP_AFTER_FORGET_RUN, /* the run's result is committed */
    CHP_AFTER_NOTICE,     /* to watchers */
    CHP_AFTER_TELL,       /* a reply is in the store and may be published */
    CHP_AFTER_EVENT,      /* a row of events is in the store and may be published */
    CHP_AFTER_MARK,       /* a site's mark moved: the stream to it has room */
    CHP_AFTER_RESEND,     /* a site lacks what follows its mark: send again from there */
    CHP_AFTER_STARTED,    /* the start's load is in: a stream may go on; site NULL, last: events and
                             replies may */
    CHP_AFTER_PEER,       /* a site is up or down now */
    CHP_AFTER_REGRESSED,  /* the database went back in time: throw the engine away and start a new
                             one, which is told */
};

struct chp_after {
    enum chp_after_kind kind;
    union {
        struct {
            uint64_t ticket;
            struct chp_reply reply;
        } reply;
        struct {
            uint64_t ticket;
            int code;          /* 0: it is resolved */
            const char *error; /* sentence, when code != 0 */
        } resolved;
        struct {
            uint64_t delivery;
            const char *reason;     /* DEAD: why */
            struct chp_bytes bytes; /* DEAD: the item */
        } settle;
        struct {
            const char *site;
            enum chp_key key;
            uint64_t number;
            struct chp_bytes item;
        } send; /* SEND and CONTROL (number 0) */
        struct {
            struct chp_bytes item; /* of the operation */
            uint32_t run;
            bool resume;
            bool undo; /* the operation's undo runs, not its payload */
        } run;         /* RUN and FETCH */
        struct {
            struct chp_uuid operation;
            uint32_t run;
            const char *driver;
        } forget_run;
        struct {
            struct chp_notice notice;
        } notice;
        const struct chp_reply_row *tell;
        struct {
            uint64_t number;
            size_t write; /* its place in batch.writes */
        } event;
        struct {
            const char *site;
            enum chp_key key;
            uint64_t mark;
            uint64_t last;       /* STARTED: one for each stream out */
            uint64_t reply_last; /* STARTED, site NULL: replies up to here may be in the store */
        } stream;                /* MARK, RESEND and STARTED */
        struct {
            const char *site;
            bool up;
        } peer;
        struct {
            const char *reason;
            uint64_t incarnation; /* the new one must be higher */
        } regressed;
    };
};

struct chp_effects {
    struct chp_batch batch; /* its arena owns everything in after, too */
    struct chp_after *after;
    size_t after_count;
    size_t after_cap;
};

void chp_engine_step(struct chp_engine *engine, const struct chp_event *event,
                     struct chp_effects *effects);

/* Adds a zeroed effect of the kind; valid until the next call. */
struct chp_after *chp_effects_after(struct chp_effects *effects, enum chp_after_kind kind);
void chp_effects_deinit(struct chp_effects *effects);

/* The batch, made by step, has committed: from now on its marks may be told to others. To be called
 * before anything of its after is done. */
void chp_engine_committed(struct chp_engine *engine, const struct chp_batch *batch);

/* What is known of a peer now, for doors; false past the last index. */
struct chp_peer_view {
    const char *site;
    bool up;
    bool state_known;        /* up or down was decided since start */
    uint64_t since_ms;       /* of this state, wall clock */
    uint64_t heard_ms;       /* last beat, wall clock */
    uint64_t round_trip_us;  /* 0 unknown */
    int64_t clock_offset_ms; /* peer's wall clock minus ours, as of its last beat */
    uint32_t version;        /* as chp_engine_version */
    uint32_t version_max;    /* what it speaks; 0 not heard yet */
    uint32_t version_min;
    uint64_t undecoded; /* items of it that wait for a later version here */
    const char *software;
    uint64_t incarnation;
    uint64_t taken_incarnation; /* of its stream of operations, */
    uint64_t taken;             /* which is committed here up to there */
    bool gap_open;              /* an earlier life of this database may have taken more */
};
bool chp_engine_peer(const struct chp_engine *engine, size_t index, struct chp_peer_view *view);
/* Marks to send with the next message to site: what this site has committed of its streams. Filled
 * up to CHP_KEY_COUNT; returns how many. */
size_t chp_engine_marks(const struct chp_engine *engine, const char *site, struct chp_mark *marks);
/* The beat to send to site now. */
void chp_engine_beat(const struct chp_engine *engine, const char *site, const struct chp_now *now,
                     struct chp_beat *beat);
/* The wire version to speak with site: the highest that both do (CHP_WIRE_VERSION_MIN until a beat
 * of it was heard); 0 when there is none. */
uint32_t chp_engine_version(const struct chp_engine *engine, const char *site);
/* Executions in doubt: those that hold back their resource here, and those of this origin's
 * operations that other sites told of. Fills up to max, returns how many there are. */
struct chp_doubt_view {
    struct chp_uuid operation;
    const char *site;
};
size_t chp_engine_in_doubt(const struct chp_engine *engine, struct chp_doubt_view *views,
                           size_t max);
uint64_t chp_engine_incarnation(const struct chp_engine *engine);
/* The serial that START has found in the database. */
uint64_t chp_engine_serial(const struct chp_engine *engine);
/* Highest number of an event so far. */
uint64_t chp_engine_event_last(const struct chp_engine *engine);
/* Which database it is, as START has found; NULL before. */
const char *chp_engine_database(const struct chp_engine *engine);
size_t chp_engine_resource_count(const struct chp_engine *engine);
/* True when the clock of this site leads what the peers confirm by more than max_skew. */
bool chp_engine_clock_suspect(const struct chp_engine *engine, const struct chp_now *now);

#endif
