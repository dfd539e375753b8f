//! Properties of TLS and SASL. `memory:` and `file:` have no wire that these could protect; they are checked and kept for `host:port`
//! addresses, and whoever sets one is told so.

use super::super::property::Property as P;

const NO_WIRE: &str = "`memory:` and `file:` have no wire to protect; kept for connections over TCP, which come with a later version";
const NONE_HTTPS: &[(&str, &str)] = &[("none", "none"), ("https", "https")];

pub(super) const ROWS: &[P] = &[
    P::choice(
        "security.protocol",
        &[("plaintext", "plaintext"), ("ssl", "ssl"), ("sasl_plaintext", "sasl_plaintext"), ("sasl_ssl", "sasl_ssl")],
        "plaintext",
    )
    .high()
    .warned(NO_WIRE)
    .doc("How to speak to brokers: in the clear or over TLS, with or without SASL."),
    P::text("ssl.cipher.suites", "").warned(NO_WIRE).doc("Cipher suites."),
    P::text("ssl.curves.list", "").warned(NO_WIRE).doc("Elliptic curves."),
    P::text("ssl.sigalgs.list", "").warned(NO_WIRE).doc("Signature algorithms."),
    P::text("ssl.key.location", "").warned(NO_WIRE).doc("File of the client's private key (PEM)."),
    P::text("ssl.key.password", "").warned(NO_WIRE).doc("Passphrase of the private key."),
    P::text("ssl.key.pem", "").warned(NO_WIRE).doc("The private key itself (PEM)."),
    P::function("ssl_key").warned(NO_WIRE).doc("The private key, from memory."),
    P::text("ssl.certificate.location", "").warned(NO_WIRE).doc("File of the client's certificate (PEM)."),
    P::text("ssl.certificate.pem", "").warned(NO_WIRE).doc("The certificate itself (PEM)."),
    P::function("ssl_certificate").warned(NO_WIRE).doc("The certificate, from memory."),
    P::text("ssl.ca.location", "").warned(NO_WIRE).doc("File or directory of trusted certificates."),
    P::text("https.ca.location", "").warned(NO_WIRE).doc("File or directory of certificates trusted for HTTPS."),
    P::text("https.ca.pem", "").warned(NO_WIRE).doc("The certificates trusted for HTTPS themselves (PEM)."),
    P::text("ssl.ca.pem", "").warned(NO_WIRE).doc("The trusted certificates themselves (PEM)."),
    P::function("ssl_ca").warned(NO_WIRE).doc("The trusted certificates, from memory."),
    P::text("ssl.ca.certificate.stores", "Root").warned(NO_WIRE).doc("Windows' certificate stores."),
    P::text("ssl.crl.location", "").warned(NO_WIRE).doc("File of revoked certificates."),
    P::text("ssl.keystore.location", "").warned(NO_WIRE).doc("File of key and certificate (PKCS#12)."),
    P::text("ssl.keystore.password", "").warned(NO_WIRE).doc("Its password."),
    P::text("ssl.truststore.location", "")
        .hidden()
        .refused("Java's trust stores are not read: name a certificate file with ssl.ca.location")
        .doc("Java's."),
    P::text("ssl.providers", "").warned(NO_WIRE).doc("OpenSSL's providers."),
    P::text("ssl.engine.location", "").deprecated().warned(NO_WIRE).doc("OpenSSL's engine."),
    P::text("ssl.engine.id", "dynamic").warned(NO_WIRE).doc("Its id."),
    P::function("ssl_engine_callback_data").warned(NO_WIRE).doc("Its data."),
    P::boolean("enable.ssl.certificate.verification", "true").warned(NO_WIRE).doc("Whether the broker's certificate is checked."),
    P::choice("ssl.endpoint.identification.algorithm", NONE_HTTPS, "https")
        .warned(NO_WIRE)
        .doc("Whether the broker's name must be that of its certificate."),
    P::function("ssl.certificate.verify_cb").warned(NO_WIRE).doc("Checks the broker's certificate."),
    P::text("sasl.mechanisms", "GSSAPI").high().warned(NO_WIRE).doc("The SASL mechanism; one, in spite of the name."),
    P::alias("sasl.mechanism", "sasl.mechanisms").high(),
    P::text("sasl.jaas.config", "")
        .hidden()
        .refused("Java's JAAS configuration is not read: use sasl.mechanism, sasl.username and sasl.password")
        .doc("Java's."),
    P::text("sasl.kerberos.service.name", "kafka").warned(NO_WIRE).doc("The brokers' Kerberos principal."),
    P::text("sasl.kerberos.principal", "kafkaclient").warned(NO_WIRE).doc("The client's Kerberos principal."),
    P::text(
        "sasl.kerberos.kinit.cmd",
        "kinit -R -t \"%{sasl.kerberos.keytab}\" -k %{sasl.kerberos.principal} || kinit -t \"%{sasl.kerberos.keytab}\" -k %{sasl.kerberos.principal}",
    )
    .warned(NO_WIRE)
    .doc("Command that gets a ticket."),
    P::text("sasl.kerberos.keytab", "").warned(NO_WIRE).doc("The key tab."),
    P::integer("sasl.kerberos.min.time.before.relogin", 0, 86_400_000, "60000").warned(NO_WIRE).doc("How often a ticket is renewed at most, in ms; 0 is never."),
    P::text("sasl.username", "").high().warned(NO_WIRE).doc("User name for PLAIN and SCRAM."),
    P::text("sasl.password", "").high().warned(NO_WIRE).doc("Password for PLAIN and SCRAM."),
    P::text("sasl.oauthbearer.config", "").warned(NO_WIRE).doc("Settings of the token's source."),
    P::boolean("enable.sasl.oauthbearer.unsecure.jwt", "false").warned(NO_WIRE).doc("Unsigned tokens, for tests."),
    P::function("oauthbearer_token_refresh_cb").warned(NO_WIRE).doc("Gets a new token."),
    P::choice("sasl.oauthbearer.method", &[("default", "default"), ("oidc", "oidc")], "default").warned(NO_WIRE).doc("Where tokens come from."),
    P::text("sasl.oauthbearer.client.id", "").warned(NO_WIRE).doc("The application's id at the token's issuer."),
    P::alias("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    P::alias("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    P::text("sasl.oauthbearer.client.secret", "").warned(NO_WIRE).doc("Its secret."),
    P::text("sasl.oauthbearer.scope", "").warned(NO_WIRE).doc("The scope to ask for."),
    P::text("sasl.oauthbearer.extensions", "").warned(NO_WIRE).doc("What to tell the broker besides."),
    P::text("sasl.oauthbearer.token.endpoint.url", "").warned(NO_WIRE).doc("The issuer."),
    P::text("sasl.oauthbearer.sub.claim.name", "sub").warned(NO_WIRE).doc("The claim that names the subject."),
    P::choice(
        "sasl.oauthbearer.grant.type",
        &[
            ("client_credentials", "client_credentials"),
            ("urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ],
        "client_credentials",
    )
    .warned(NO_WIRE)
    .doc("The grant."),
    P::choice("sasl.oauthbearer.assertion.algorithm", &[("RS256", "RS256"), ("ES256", "ES256")], "RS256").warned(NO_WIRE).doc("How assertions are signed."),
    P::text("sasl.oauthbearer.assertion.private.key.file", "").warned(NO_WIRE).doc("File of the key that signs them."),
    P::text("sasl.oauthbearer.assertion.private.key.passphrase", "").warned(NO_WIRE).doc("Its passphrase."),
    P::text("sasl.oauthbearer.assertion.private.key.pem", "").warned(NO_WIRE).doc("The key itself (PEM)."),
    P::text("sasl.oauthbearer.assertion.file", "").warned(NO_WIRE).doc("File of a ready assertion."),
    P::text("sasl.oauthbearer.assertion.claim.aud", "").warned(NO_WIRE).doc("The assertion's audience."),
    P::integer("sasl.oauthbearer.assertion.claim.exp.seconds", 1, 2_147_483_647, "300").warned(NO_WIRE).doc("How long assertions are good, in seconds."),
    P::text("sasl.oauthbearer.assertion.claim.iss", "").warned(NO_WIRE).doc("The assertion's issuer."),
    P::boolean("sasl.oauthbearer.assertion.claim.jti.include", "false").warned(NO_WIRE).doc("Whether each assertion has an id."),
    P::integer("sasl.oauthbearer.assertion.claim.nbf.seconds", 0, 2_147_483_647, "60").warned(NO_WIRE).doc("How long before now assertions begin to be good, in seconds."),
    P::text("sasl.oauthbearer.assertion.claim.sub", "").warned(NO_WIRE).doc("The assertion's subject."),
    P::text("sasl.oauthbearer.assertion.jwt.template.file", "").warned(NO_WIRE).doc("File with further claims."),
    P::choice(
        "sasl.oauthbearer.metadata.authentication.type",
        &[("none", "none"), ("azure_imds", "azure_imds"), ("aws_iam", "aws_iam")],
        "none",
    )
    .warned(NO_WIRE)
    .doc("Tokens from a cloud's metadata service."),
];
