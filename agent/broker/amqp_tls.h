/* SPDX-License-Identifier: AGPL-3.0-only */
/* TLS towards the broker: always verified. */
#ifndef CHP_BROKER_AMQP_TLS_H
#define CHP_BROKER_AMQP_TLS_H

#include "base/err.h"

#include <openssl/ssl.h>

/* ca_file NULL: the system's certificate authorities; cert_file and key_file: both or none. NULL
 * with *error. */
SSL_CTX *broker__tls_context(const char *ca_file, const char *cert_file, const char *key_file,
                             struct chp_error *error);
/* A client's session that accepts only a certificate for name (a host name or an address). NULL
 * with *error. */
SSL *broker__tls_session(SSL_CTX *context, const char *name, struct chp_error *error);
/* What went wrong, for a person. openssl_error: from bufferevent_get_openssl_error, or 0. */
void broker__tls_explain(const SSL *session, unsigned long openssl_error, struct chp_error *error);

#endif
