/* SPDX-License-Identifier: AGPL-3.0-only */
#include "broker/amqp_tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdbool.h>

static void *refuse(SSL_CTX *context, struct chp_error *error, const char *what, const char *file)
{
    char reason[160];

    ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
    (void)chp_error_set(error, CHP_EINVAL, "TLS to the broker: %s%s%s: %s", what,
                        file == NULL ? "" : " ", file == NULL ? "" : file, reason);
    SSL_CTX_free(context);
    return NULL;
}

SSL_CTX *broker__tls_context(const char *ca_file, const char *cert_file, const char *key_file,
                             struct chp_error *error)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    CHP_ASSERT(context != NULL);
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
        return refuse(context, error, "TLS 1.2 is not available", NULL);
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    int loaded = ca_file == NULL ? SSL_CTX_set_default_verify_paths(context)
                                 : SSL_CTX_load_verify_file(context, ca_file);
    if (loaded != 1) {
        return refuse(context, error, "cannot load certificate authorities from",
                      ca_file == NULL ? "the system's store" : ca_file);
    }
    if ((cert_file == NULL) != (key_file == NULL)) {
        return refuse(context, error,
                      "a client certificate needs its key, and a key its certificate", NULL);
    }
    if (cert_file != NULL && SSL_CTX_use_certificate_chain_file(context, cert_file) != 1) {
        return refuse(context, error, "cannot load the certificate", cert_file);
    }
    if (key_file != NULL && SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1) {
        return refuse(context, error, "cannot load the key", key_file);
    }
    return context;
}

static bool is_address(const char *name)
{
    unsigned char address[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

SSL *broker__tls_session(SSL_CTX *context, const char *name, struct chp_error *error)
{
    ERR_clear_error();
    SSL *session = SSL_new(context);
    CHP_ASSERT(session != NULL);
    bool ready =
        is_address(name)
            ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), name) == 1
            : SSL_set1_host(session, name) == 1 && SSL_set_tlsext_host_name(session, name) == 1;
    if (!ready) {
        (void)chp_error_set(error, CHP_EINVAL, "TLS to the broker: '%s' is no name to verify",
                            name);
        SSL_free(session);
        return NULL;
    }
    return session;
}

void broker__tls_explain(const SSL *session, unsigned long openssl_error, struct chp_error *error)
{
    const char *reason = ERR_reason_error_string(openssl_error);
    long verified = SSL_get_verify_result(session);

    if (verified != X509_V_OK) {
        (void)chp_error_set(
            error, CHP_EUNAVAILABLE,
            "the broker's certificate is not accepted: %s; see ca_file and server_name",
            X509_verify_cert_error_string(verified));
    } else {
        (void)chp_error_set(error, CHP_EUNAVAILABLE, "TLS to the broker failed: %s",
                            reason == NULL ? "the connection was closed" : reason);
    }
}
