/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The state of a site as plain data: what the engine asks to be written and read. schema/README.md
 * describes the tables. A batch is one transaction: its writes by kind, then its loads, which see
 * the writes.
 *
 * All pointers in a batch live in its arena (or longer than the batch).
 */
#ifndef CHP_PORT_STATE_H
#define CHP_PORT_STATE_H

#include "wire/request.h"

/* What a site knows of a resource. */
struct chp_resource_row {
    const char *id;
    enum chp_level level;
    const char *scope;
    const char **members; /* sorted */
    size_t member_count;
    struct chp_vector vector; /* dots held here, contiguously */
    struct chp_stamp highest; /* of the operations held here */
    /* The operation that creates it and comes first in arbitration order: its level, scope and
     * config count. */
    struct chp_stamp created;
    const char *created_origin;
    struct chp_uuid created_id;
    uint64_t created_ms;
    const char *config; /* resolution matrix, checked and completed, as JSON text; or NULL */
    uint64_t config_version;
    bool merged; /* created concurrently on several sites */
    /* Of the replica here (design section 6, the plan). */
    const char *diverged; /* why it can't be made right; or NULL */
    bool degraded;        /* something failed here that succeeded elsewhere */
    bool order_assumed;   /* ran in another order than the sequence, as is assumed to be the same */
    bool deleted;         /* the sequence ends with a deletion */
    bool unsettled;       /* more has to run here than its executions say */
    struct chp_vector forgotten; /* of vector: not needed any more, and deleted (section 4.8) */
    const char *base_config;     /* the matrix that was in force for them; or NULL */
};

/* State of one operation at one site, as this site knows it. At the origin there is a row for every
 * member, elsewhere for the site itself. */
struct chp_execution_row {
    struct chp_ack ack; /* all but resource are columns; ack.resource is, too, for the busy index */
    uint64_t number;    /* of the operation in the stream to ack.site; 0 at the site itself */
    uint64_t updated_ms; /* wall clock here */
    uint64_t elapsed_ms; /* at the origin: from entering to this answer */
    /* Of the execution here. */
    uint64_t effect; /* its place among those whose effect the application has; 0: it has not */
    bool undoing;    /* the run is that of its undo */
};

/* Where a client of the AMQP door wants to be told of an operation. */
struct chp_listener {
    const char *reply_to;
    const char *correlation_id; /* "" when it gave none */
};

/* What must be told to a listener: committed with what it tells, deleted when it was told. */
struct chp_reply_row {
    uint64_t number; /* rises; of one listener and operation: the order of telling */
    struct chp_uuid operation;
    struct chp_listener to;
    const char *message_id; /* the same whenever the same is told */
    struct chp_bytes body;  /* as it is published */
    uint64_t at_ms;
};

/* What is too old. Replies and events go from the lowest number up to the highest one that is too
 * old; events only when they are published, and never the last one. */
struct chp_forget {
    uint64_t keys_before_ms; /* and replies */
    uint64_t events_before_ms;
};

/* A batch's writes run by kind, in this order. */
enum chp_write_kind {
    CHP_WRITE_SELF,        /* this site's incarnation; replaces */
    CHP_WRITE_REINCARNATE, /* a new life of the database: see below */
    CHP_WRITE_RESOURCE,    /* insert or replace */
    CHP_WRITE_REDOT,       /* an operation gets another dot and item */
    CHP_WRITE_OPERATION,   /* insert; does nothing when the id is there */
    CHP_WRITE_EXECUTION,   /* insert or replace by (operation, site), never with a lower run */
    CHP_WRITE_COMPLETED,   /* the origin's operation has been answered by every member */
    CHP_WRITE_OUTBOUND,    /* an item waits for a site */
    CHP_WRITE_STREAM_OUT,  /* a site has committed up to mark: forget the items, keep the mark */
    CHP_WRITE_STREAM_IN,   /* this site has committed up to mark */
    CHP_WRITE_EVENT,
    CHP_WRITE_EVENTS_PUBLISHED, /* up to number */
    CHP_WRITE_KEY,              /* idempotency key; does nothing when it is there */
    CHP_WRITE_LISTENER,         /* one more; the CHP_LISTENERS_MAX last of an operation are kept */
    CHP_WRITE_REPLY,            /* insert */
    CHP_WRITE_REPLIED,          /* delete the reply with that number */
    CHP_WRITE_FORGET,           /* what is old, at most CHP_FORGET_MAX rows of each table */
    CHP_WRITE_PEER,             /* insert or replace; not what GAP and REPORTED write */
    CHP_WRITE_GAP,              /* of a peer: what of it may have been taken in an earlier life */
    CHP_WRITE_REPORTED,         /* to a peer, up to an arrival here */
    CHP_WRITE_LOST,             /* dots that no member has */
    CHP_WRITE_VOIDED,           /* an operation's executions that failed are voided */
    CHP_WRITE_REBUILD,          /* no execution of a resource here has its effect any more */
    CHP_WRITE_FORGOTTEN,        /* operations of a resource go, with their executions */
    CHP_WRITE_UNDECODED,        /* an item of a kind that is not known yet waits */
    CHP_WRITE_DECODED,          /* it has been taken: forget it */
    CHP_WRITE_SERIAL,           /* of this batch: higher in each one */
};
enum { CHP_WRITE_COUNT = CHP_WRITE_SERIAL + 1 };

struct chp_write {
    enum chp_write_kind kind;
    union {
        struct {
            const char *site;
            uint64_t incarnation;
            const char *database; /* chp_load.start.database */
        } self;
        struct chp_resource_row resource;
        struct {
            const struct chp_operation *operation;
            struct chp_bytes item; /* as its origin encoded it */
            const char *reply_to;  /* at the origin: its first listener's, or NULL */
            const char *correlation_id;
            uint64_t received_ms; /* wall clock here */
            bool clock_suspect;   /* its stamp leads the trusted clock here by more than max_skew */
        } operation;
        struct chp_execution_row execution;
        struct {
            struct chp_uuid operation;
            bool failed;
            uint64_t completed_ms;
        } completed;
        struct {
            const char *site;
            enum chp_key key;
            uint64_t number;
            bool is_operation; /* the item is that of operation, kept once for all sites */
            struct chp_uuid operation;
            struct chp_bytes item; /* otherwise */
        } outbound;
        struct {
            const char *site;
            enum chp_key key;
            uint64_t incarnation; /* of the sender of the stream */
            uint64_t mark;
        } stream; /* STREAM_OUT and STREAM_IN */
        struct {
            uint64_t number;
            uint64_t at_ms;
            const char *kind;     /* "operation.accepted", ... */
            const char *resource; /* or NULL, as the next two */
            const struct chp_uuid *operation;
            const char *site; /* that it is about */
            const char *data; /* JSON object as text */
        } event;
        uint64_t events_published;
        struct {
            const char *principal;
            const char *key;
            struct chp_sha256 hash; /* chp_request_hash */
            struct chp_uuid operation;
            uint64_t at_ms;
        } key;
        struct {
            const char *site;
            bool up;
            uint64_t since_ms;      /* wall clock */
            uint64_t heard_ms;      /* last contact, wall clock; 0 never */
            uint64_t round_trip_us; /* 0 unknown */
        } peer;
        struct {
            struct chp_uuid operation;
            uint64_t place; /* rises within the operation; from 1 */
            struct chp_listener to;
        } listener;
        struct chp_reply_row reply;
        uint64_t replied;
        struct chp_forget forget;
        uint64_t serial;
        /* In one statement or several:
         * - the incarnation is that of self from now on (the row is made if there is none);
         * - the streams out of this incarnation: for each site, the operations of this origin that
         *   it has not answered (executions of others that are not final, by arrival), then what
         *   else waits in outbound, get new numbers from 1; the number of each execution follows;
         *   a stream row (out, mark 0, last) for each site and key that has any;
         * - executions of others that were shown as delivered by a mark of an earlier life get
         * state delivered if they are not among these. */
        struct {
            const char *site;
            uint64_t incarnation;
            const char *database; /* chp_load.start.database */
        } reincarnate;
        struct {
            const char *site;
            bool open;
            uint64_t mark; /* the stream of operations was taken up to here in an earlier life */
        } gap;
        struct {
            const char *site;
            uint64_t incarnation; /* of site */
            uint64_t arrival;
        } reported;
        struct {
            const char *resource;
            struct chp_range range;
            uint64_t at_ms;
        } lost;
        struct {
            struct chp_uuid operation;
            uint64_t incarnation;
            uint64_t n;
            struct chp_stamp stamp;
            struct chp_bytes item;
        } redot;
        struct {
            const char *site; /* it came from, in its stream of key with number */
            enum chp_key key;
            uint64_t incarnation;
            uint64_t number;
            struct chp_bytes item;
        } undecoded;
        uint64_t decoded; /* chp_undecoded_row.arrival */
        struct chp_uuid voided;
        const char *rebuild; /* resource */
        struct {
            const char *resource;
            struct chp_vector vector; /* all up to there */
        } forgotten;
    };
};

enum chp_load_kind {
    CHP_LOAD_START,     /* everything that is not per resource */
    CHP_LOAD_RESOURCE,  /* one resource and its pending operations */
    CHP_LOAD_KEY,       /* an idempotency key; with it, when it is known, the row of the resource */
    CHP_LOAD_BUSY,      /* ids of resources with operations that have not ended here, or that are
                           unsettled or degraded, by id, after a given one */
    CHP_LOAD_OPERATION, /* one operation with its executions and listeners */
    CHP_LOAD_OUTBOUND,  /* items of one stream */
    CHP_LOAD_EVENTS,
    CHP_LOAD_RANGE,   /* items of a range of dots of a resource, by n, with executions */
    CHP_LOAD_REPORT,  /* resources of a peer with operations that arrived after a given one */
    CHP_LOAD_VECTORS, /* of resources, by id */
    CHP_LOAD_REPLIES,
    CHP_LOAD_OLDEST,    /* of what may be forgotten */
    CHP_LOAD_UNDECODED, /* items that wait undecoded, by arrival, after a given one */
};

/* What is known of a peer beside its streams. */
struct chp_peer_row {
    const char *site;
    bool gap_open; /* CHP_WRITE_GAP */
    uint64_t gap_mark;
    uint64_t reported_incarnation; /* CHP_WRITE_REPORTED; 0 never */
    uint64_t reported_arrival;
};

/* An item of a kind that this version, or an earlier one, does not know. */
struct chp_undecoded_row {
    uint64_t arrival; /* among these */
    const char *site;
    enum chp_key key;
    uint64_t incarnation;
    uint64_t number;
    struct chp_bytes item;
};

/* How many of them there are of a site. */
struct chp_undecoded_total {
    const char *site;
    uint64_t rows;
    uint64_t bytes;
};

struct chp_vector_row {
    const char *resource;
    struct chp_vector vector;
};

struct chp_stream_row {
    const char *site;
    enum chp_key key;
    bool out;
    uint64_t incarnation;
    uint64_t mark;
    uint64_t last; /* out: highest number given so far (mark when nothing waits) */
};

/* An operation held here that has not ended here. */
struct chp_pending_row {
    const struct chp_operation *operation; /* decoded from item */
    struct chp_bytes item;
    uint64_t arrival;     /* order in which it was stored */
    enum chp_state state; /* of the execution here */
    uint32_t run;
    uint64_t incarnation; /* in which the execution's state was written */
};

/* An operation held here, with what became of it here. */
struct chp_history_row {
    const struct chp_operation *operation; /* decoded from item */
    struct chp_bytes item;
    uint64_t arrival;
    bool executes; /* this site is to execute it; else the rest is not set */
    enum chp_state state;
    uint32_t run;
    uint64_t incarnation;
    uint64_t effect; /* as the next, see chp_execution_row */
    bool undoing;
    bool done_elsewhere;
    bool completed;         /* every member has answered: known at its origin */
    bool failed_everywhere; /* and all of them that it failed */
};

struct chp_event_row {
    uint64_t number;
    uint64_t at_ms;
    const char *kind;
    const char *json; /* the event whole, as published: schema/README.md */
};

struct chp_item_row {
    uint64_t number; /* in its stream; for CHP_LOAD_RANGE the n of the dot */
    struct chp_uuid operation;
    struct chp_bytes item;
    /* RANGE: the execution of load.site and that of this site, or NULL. */
    const struct chp_execution_row *theirs;
    const struct chp_execution_row *own;
};

struct chp_load {
    enum chp_load_kind kind;
    uint64_t token; /* the caller's, untouched */
    /* What is asked. */
    const char *resource;      /* RESOURCE, KEY, RANGE; BUSY: the id to start after, "" at first */
    const char *principal;     /* KEY */
    const char *key;           /* KEY */
    struct chp_uuid operation; /* OPERATION */
    struct chp_range range;    /* RANGE */
    const char *site;          /* OUTBOUND, RANGE, REPORT */
    enum chp_key stream_key;   /* OUTBOUND */
    uint64_t after; /* OUTBOUND, EVENTS, REPLIES: numbers greater than this; REPORT, UNDECODED:
                       arrivals */
    bool all;       /* REPORT: of every origin; else only of origins other than site and this one */
    const char **ids; /* VECTORS; REPLIES: not to these reply_to */
    size_t id_count;
    struct chp_forget forget; /* OLDEST: the caller's, untouched */
    size_t limit;             /* rows */
    /* The result, in the batch's arena. found is false when there is no such row. */
    bool found;
    struct {
        const char *site; /* NULL: the database has never been used */
        uint64_t incarnation;
        uint64_t event_last;
        uint64_t event_published;
        uint64_t reply_last; /* highest number there is now */
        struct chp_stream_row *streams;
        size_t stream_count;
        uint64_t received_last;     /* highest arrival */
        uint64_t serial;            /* of the last batch that wrote one; 0 none yet */
        const char *database;       /* which one it is: the cluster's system identifier and name */
        const char *database_known; /* as the last REINCARNATE or SELF wrote it, or NULL */
        struct chp_peer_row *peers;
        size_t peer_count;
        struct chp_undecoded_total *undecoded;
        size_t undecoded_count;
    } start;
    struct {
        struct chp_resource_row row;
        struct chp_pending_row *pending; /* level none: by arrival, at most limit */
        size_t pending_count;
        size_t pending_total;
        struct chp_history_row *history; /* level eventual: all operations held, by arrival */
        size_t history_count;
        bool key_found;
        struct chp_sha256 key_hash;
        struct chp_uuid key_operation;
    } resource_result;
    struct {
        const char **ids;
        size_t count;
    } busy;
    struct {
        struct chp_operation *row; /* decoded from its item, which borrows from item */
        struct chp_bytes item;
        struct chp_listener *listeners; /* the first one, if any, is who asked first */
        size_t listener_count;
        uint64_t listener_place; /* of the last of the others; 0: there is none */
        bool completed;
        struct chp_execution_row *executions;
        size_t execution_count;
    } operation_result;
    struct {
        struct chp_item_row *rows;
        size_t count;
    } items; /* OUTBOUND, RANGE */
    struct {
        struct chp_event_row *rows;
        size_t count;
    } events;
    struct {
        struct chp_vector_row *rows; /* those that are known */
        size_t count;
        uint64_t upto; /* REPORT: the last arrival that was looked at */
        bool end;      /* REPORT: nothing arrived after it */
    } vectors;         /* REPORT, VECTORS */
    struct {
        struct chp_reply_row *rows;
        size_t count;
    } replies;
    struct {
        uint64_t key_ms; /* UINT64_MAX: there is none, as the others */
        uint64_t reply_ms;
        uint64_t event_ms;
    } oldest;
    struct {
        struct chp_undecoded_row *rows;
        size_t count;
    } undecoded;
};

#endif
