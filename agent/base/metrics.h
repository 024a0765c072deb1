/* SPDX-License-Identifier: AGPL-3.0-only */
/* Counters and gauges of one agent, in one table; rendered in the Prometheus text format. */
#ifndef CHP_BASE_METRICS_H
#define CHP_BASE_METRICS_H

#include "base/buf.h"

/* name, type, help */
#define CHP_METRICS(X)                                                                             \
    X(operations_accepted_total, counter, "Operations admitted at this site")                      \
    X(operations_refused_total, counter, "Requests refused at this site")                          \
    X(operations_received_total, counter, "Operations received from other sites")                  \
    X(operations_completed_total, counter, "Operations of this origin answered by every member")   \
    X(executions_done_total, counter, "Executions that succeeded at this site")                    \
    X(executions_failed_total, counter, "Executions that failed at this site")                     \
    X(executions_unverified_total, counter,                                                        \
      "Executions that ran in another order than the sequence")                                    \
    X(executions_running, gauge, "Executions running now at this site")                            \
    X(acks_received_total, counter, "Acknowledgements received from other sites")                  \
    X(messages_published_total, counter, "Messages published to the broker")                       \
    X(messages_received_total, counter, "Messages consumed from the broker")                       \
    X(dead_letters_total, counter, "Messages and items that could not be processed")               \
    X(replies_total, counter, "Replies that queues of AMQP clients have taken")                    \
    X(replies_unroutable_total, counter, "Replies dropped since the client's queue is gone")       \
    X(items_unknown_total, counter,                                                                \
      "Items of kinds that only a later version knows: kept if they are numbered")                 \
    X(store_batches_total, counter, "Transactions committed")                                      \
    X(store_failures_total, counter, "Transactions that failed or whose outcome is unknown")       \
    X(store_up, gauge, "1 while the database answers")                                             \
    X(broker_up, gauge, "1 while both broker connections are open")                                \
    X(broker_blocked, gauge, "1 while the broker's alarm stops publishing")                        \
    X(inbound_bytes, gauge, "Bytes of messages taken from the broker and not yet acked")           \
    X(inbound_held, gauge, "1 while nothing further is read of the broker: enough is in hand")     \
    X(sites_up, gauge, "Other sites heard within down_after")                                      \
    X(sites_down, gauge, "Other sites not heard within down_after")                                \
    X(resources_diverged, gauge,                                                                   \
      "Replicas here that cannot be made right without a person, as counted within 10 s")          \
    X(resources_degraded, gauge,                                                                   \
      "Replicas here where something failed that succeeded elsewhere, as counted within 10 s")     \
    X(resources_cached, gauge, "Resources held in memory")                                         \
    X(blobs_fetched_bytes_total, counter, "Bytes of files fetched from other sites")               \
    X(http_requests_total, counter, "Requests answered by the HTTP door")                          \
    X(http_connections, gauge, "Connections of the HTTP door open now")

struct chp_metrics {
#define X(name, type, help) double name;
    CHP_METRICS(X)
#undef X
};

/* Appends the text exposition: cheops_<name>{site="..."} value. */
void chp_metrics_render(const struct chp_metrics *metrics, const char *site, struct chp_buf *out);

#endif
