/* The load of the bench: a client for TLS servers, and the backend behind them.
 *
 *   load visit to=PORT names=FILE count=N ...   visits: connect, handshake, one request, leave
 *   load stand to=PORT names=FILE count=N ...   requests on connections that stand
 *   load backend at=PORT                        GET /N is answered by N bytes
 *
 * One thread and epoll; OpenSSL over the sockets. In C so that the client is never what the
 * measurement waits for; bench/load.py starts it and reads the line of JSON that it prints.
 *
 * Settings of a client, all KEY=NUMBER:
 *   parallel  connections at once
 *   first     the name to begin with: visit i asks for line (first + i) of the file, round and round
 *   rate      visits begun a second, however long they take; 0: a visit begins when another ends
 *   bytes     of the answer asked for; 0: no request, leave after the handshake
 *   warm      visits beforehand that are not counted
 *   resume    1: a visit resumes the session of the last visit to that name
 *   tls       12 or 13
 * When all connections stand, or the visits beforehand are over, a client prints "ready" and waits
 * for a line, so that the servers' clocks can be read. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_S = 30, EVENTS = 256, BUFFER = 1 << 16, HEAD = 2048 };

static char buffer[BUFFER];

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* --- settings ------------------------------------------------------------------- */

static long number(int argc, char **argv, const char *key, long otherwise)
{
    size_t length = strlen(key);
    for (int i = 2; i < argc; i++)
        if (!strncmp(argv[i], key, length) && argv[i][length] == '=')
            return atol(argv[i] + length + 1);
    return otherwise;
}

static const char *text(int argc, char **argv, const char *key)
{
    size_t length = strlen(key);
    for (int i = 2; i < argc; i++)
        if (!strncmp(argv[i], key, length) && argv[i][length] == '=')
            return argv[i] + length + 1;
    errno = EINVAL;
    die(key);
    return NULL;
}

/* --- an answer: a head, and as many bytes as it says ------------------------------ */

struct answer {
    char head[HEAD + 1];
    size_t held;    /* bytes of the head so far */
    long remaining; /* bytes of the body to come; -1: the head is not whole */
};

/* Take what was read; say whether the answer is whole. */
static int take(struct answer *answer, const char *data, size_t size)
{
    if (answer->remaining < 0) {
        size_t room = HEAD - answer->held, part = size < room ? size : room;
        memcpy(answer->head + answer->held, data, part);
        answer->head[answer->held + part] = 0;
        char *end = strstr(answer->head, "\r\n\r\n");
        char *length = strcasestr(answer->head, "content-length:");
        if (end && length) {
            size_t head = end + 4 - answer->head;
            answer->remaining = atol(length + 15) - (long)(answer->held + size - head);
        }
        answer->held += part;
    } else {
        answer->remaining -= (long)size;
    }
    return answer->remaining == 0;
}

/* --- the client ------------------------------------------------------------------- */

struct connection {
    int fd; /* -1: free */
    int stands, asking;
    long name;
    double began;
    SSL *tls;
    struct answer answer;
};

static struct {
    struct sockaddr_in to;
    int stand, resume, poll, counting;
    long parallel, bytes, rate;
    long begun, ended, target; /* visits, or requests on connections that stand */
    char **names;
    long name_count, first;
    SSL_SESSION **sessions;
    SSL_CTX *context;
    struct connection *connections;
    long done, refused, failed, wrong, resumed;
    double *latencies;
    char reason[160];
} client;

static int keep_session(SSL *tls, SSL_SESSION *session)
{
    long name = ((struct connection *)SSL_get_app_data(tls))->name;
    SSL_SESSION_free(client.sessions[name]);
    client.sessions[name] = session;
    return 1;
}

static void read_names(const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    long size = 0, names = 0;
    if (!file)
        die(path);
    for (ssize_t length; (length = getline(&line, &room, file)) > 0;) {
        line[strcspn(line, "\n")] = 0;
        if (names == size)
            client.names = realloc(client.names, (size = size * 2 + 64) * sizeof(char *));
        client.names[names++] = strdup(line);
    }
    free(line);
    fclose(file);
    client.name_count = names;
    client.sessions = calloc(names, sizeof(SSL_SESSION *));
}

/* Connect from one of many loopback addresses: the ports of one do not last for long. */
static void begin(struct connection *connection, long visit, double began)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    int one = 1;
    from.sin_addr.s_addr = htonl(0x7f000002 + visit % 200);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        die("socket");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(connection->fd, (struct sockaddr *)&from, sizeof from))
        die("bind");
    if (connect(connection->fd, (struct sockaddr *)&client.to, sizeof client.to)
        && errno != EINPROGRESS)
        die("connect");
    connection->stands = connection->asking = 0;
    connection->name = (client.first + visit) % client.name_count;
    connection->began = began;
    connection->tls = SSL_new(client.context);
    SSL_set_app_data(connection->tls, connection);
    SSL_set_fd(connection->tls, connection->fd);
    SSL_set_tlsext_host_name(connection->tls, client.names[connection->name]);
    SSL_set_connect_state(connection->tls);
    if (client.resume && client.sessions[connection->name])
        SSL_set_session(connection->tls, client.sessions[connection->name]);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
    if (epoll_ctl(client.poll, EPOLL_CTL_ADD, connection->fd, &event))
        die("epoll_ctl");
}

static void end(struct connection *connection)
{
    SSL_free(connection->tls);
    close(connection->fd);
    connection->fd = -1;
    client.ended++;
}

static void fail(struct connection *connection)
{
    unsigned long error = ERR_peek_error();
    if (!connection->stands && ERR_GET_LIB(error) == ERR_LIB_SSL)
        client.refused++;
    else
        client.failed++;
    if (!client.reason[0])
        snprintf(client.reason, sizeof client.reason, "%s",
                 error ? ERR_reason_error_string(error) : "connection lost");
    ERR_clear_error();
    end(connection);
}

static void ask(struct connection *connection)
{
    char request[512];
    int length = snprintf(request, sizeof request, "GET /%ld HTTP/1.1\r\nHost: %s\r\n\r\n",
                          client.bytes, client.names[connection->name]);
    connection->answer.held = 0;
    connection->answer.remaining = -1;
    connection->asking = 1;
    SSL_write(connection->tls, request, length); /* small: the socket has room */
}

/* TLS stands: look at the certificate, note the time. */
static void stand(struct connection *connection)
{
    X509 *leaf = SSL_get0_peer_certificate(connection->tls);
    const char *name = client.names[connection->name];
    connection->stands = 1;
    if (!leaf || X509_check_host(leaf, name, 0, 0, NULL) != 1)
        client.wrong++;
    client.resumed += SSL_session_reused(connection->tls);
    if (client.counting || client.stand)
        client.latencies[client.done] = now() - connection->began;
    client.done++;
}

static void leave(struct connection *connection)
{
    SSL_shutdown(connection->tls);
    end(connection);
}

/* An answer is whole. */
static void answered(struct connection *connection)
{
    connection->asking = 0;
    if (!client.stand) {
        leave(connection);
        return;
    }
    client.ended++;
    if (client.begun < client.target) {
        client.begun++;
        ask(connection);
    }
}

/* Go on with a connection until it would block. */
static void step(struct connection *connection)
{
    ERR_clear_error();
    if (!connection->stands) {
        int result = SSL_do_handshake(connection->tls);
        if (result != 1) {
            int error = SSL_get_error(connection->tls, result);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
                fail(connection);
            return;
        }
        stand(connection);
        if (client.stand)
            return;
        if (!client.bytes) {
            leave(connection);
            return;
        }
        ask(connection);
    }
    while (connection->fd >= 0) {
        int size = SSL_read(connection->tls, buffer, sizeof buffer);
        if (size <= 0) {
            if (SSL_get_error(connection->tls, size) != SSL_ERROR_WANT_READ)
                fail(connection);
            return;
        }
        if (connection->asking && take(&connection->answer, buffer, size))
            answered(connection);
    }
}

/* Give up what takes too long; a client that hangs would measure nothing. */
static void give_up(double time)
{
    for (long i = 0; i < client.parallel; i++) {
        struct connection *connection = &client.connections[i];
        if (connection->fd >= 0 && !client.stand && time - connection->began > PATIENCE_S)
            fail(connection);
    }
}

static void begin_due(double start, double time)
{
    static long slot;
    long free_slots = client.parallel;
    while (client.begun < client.target && free_slots) {
        double due = client.rate ? start + client.begun / (double)client.rate : time;
        if (due > time)
            return;
        while (free_slots && client.connections[slot].fd >= 0) {
            slot = (slot + 1) % client.parallel;
            free_slots--;
        }
        if (free_slots)
            begin(&client.connections[slot], client.begun++, due);
    }
}

static void wait_and_step(double start)
{
    struct epoll_event events[EVENTS];
    double wait = 0.25;
    if (client.rate && !client.stand && client.begun < client.target) {
        wait = start + client.begun / (double)client.rate - now();
        wait = wait < 0 ? 0 : wait > 0.25 ? 0.25 : wait;
        if (client.begun - client.ended >= client.parallel)
            wait = 0.25; /* due, but there is no room: wait for one that ends */
    }
    struct timespec timeout = {.tv_nsec = (long)(wait * 1e9)};
    int count = epoll_pwait2(client.poll, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if (connection->fd >= 0)
            step(connection);
    }
}

/* Make visits until `target` have ended. */
static void visit(long target)
{
    double start = now(), looked = start;
    client.begun = client.ended = client.done = client.resumed = 0;
    client.target = target;
    while (client.ended < client.target) {
        double time = now();
        begin_due(start, time);
        wait_and_step(start);
        if (time - looked > 1) {
            give_up(time);
            looked = time;
        }
    }
}

/* Open all connections, a few at a time. */
static void stand_all(void)
{
    long begun = 0;
    while (client.done + client.ended < client.parallel) {
        while (begun < client.parallel && begun - client.done - client.ended < 64) {
            begin(&client.connections[begun], begun, now());
            begun++;
        }
        wait_and_step(0);
    }
    client.ended = 0;
}

static void request(long target)
{
    double start = now();
    client.target = target;
    client.begun = client.ended = 0;
    for (long i = 0; i < client.parallel && client.begun < target; i++) {
        if (client.connections[i].fd >= 0) {
            client.begun++;
            ask(&client.connections[i]);
        }
    }
    while (client.ended < client.begun && now() - start < 10 * PATIENCE_S)
        wait_and_step(0);
    if (client.ended < target) {
        client.failed += target - client.ended;
    }
}

static void barrier(void)
{
    char line[16];
    printf("ready\n");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        exit(0);
}

static void print_result(double seconds)
{
    printf("{\"done\": %ld, \"refused\": %ld, \"failed\": %ld, \"wrong\": %ld, \"resumed\": %ld, "
           "\"seconds\": %.6f, \"reason\": \"%s\", \"latencies_us\": [",
           client.done, client.refused, client.failed, client.wrong, client.resumed, seconds,
           client.reason);
    for (long i = 0; i < client.done; i++)
        printf("%s%.0f", i ? ", " : "", client.latencies[i] * 1e6);
    printf("]}\n");
}

static void run_client(int argc, char **argv)
{
    long count = number(argc, argv, "count", 0), warm = number(argc, argv, "warm", 0);
    int version = number(argc, argv, "tls", 13) == 12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    client.stand = !strcmp(argv[1], "stand");
    client.parallel = number(argc, argv, "parallel", 8);
    client.bytes = number(argc, argv, "bytes", 0);
    client.rate = number(argc, argv, "rate", 0);
    client.resume = number(argc, argv, "resume", 0);
    client.first = number(argc, argv, "first", 0);
    client.to = (struct sockaddr_in){.sin_family = AF_INET,
                                     .sin_port = htons(number(argc, argv, "to", 0)),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    read_names(text(argc, argv, "names"));
    client.connections = calloc(client.parallel, sizeof(struct connection));
    client.latencies = calloc(count + client.parallel, sizeof(double));
    for (long i = 0; i < client.parallel; i++)
        client.connections[i].fd = -1;
    client.poll = epoll_create1(EPOLL_CLOEXEC);
    client.context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(client.context, version);
    SSL_CTX_set_max_proto_version(client.context, version);
    /* The groups that all have: what newer libraries add would cost only their servers. P-256
     * is for the certificates of TLS 1.2 (RFC 8422 5.1); all prefer X25519. */
    SSL_CTX_set1_groups_list(client.context, "X25519:P-256");
    SSL_CTX_set_session_cache_mode(client.context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client.context, keep_session);
    if (client.stand)
        stand_all();
    else if (warm)
        visit(warm);
    barrier();
    double start = now();
    client.counting = 1;
    if (client.stand)
        request(count);
    else
        visit(count);
    print_result(now() - start);
}

/* --- the backend ------------------------------------------------------------------- */

struct guest {
    int fd;
    size_t held;
    long owed; /* bytes of the body to write */
    char request[4096];
};

static void send_owed(struct guest *guest)
{
    static const char zeros[BUFFER];
    while (guest->owed > 0) {
        ssize_t sent = send(guest->fd, zeros, guest->owed < BUFFER ? guest->owed : BUFFER, 0);
        if (sent <= 0)
            return;
        guest->owed -= sent;
    }
}

/* Head and the first of the body in one piece, as a backend would send it. */
static void answer(struct guest *guest)
{
    long bytes = atol(guest->request + 5);
    int head = snprintf(buffer, sizeof buffer,
                        "HTTP/1.1 200 OK\r\nContent-Length: %ld\r\n\r\n", bytes);
    long body = bytes < BUFFER - head ? bytes : BUFFER - head;
    memset(buffer + head, 0, body);
    ssize_t sent = send(guest->fd, buffer, head + body, 0);
    guest->owed = bytes + head - (sent < 0 ? 0 : sent);
    guest->held = 0;
    send_owed(guest);
}

static int attend(struct guest *guest)
{
    for (;;) {
        send_owed(guest);
        ssize_t size = recv(guest->fd, guest->request + guest->held,
                            sizeof guest->request - 1 - guest->held, 0);
        if (size <= 0)
            return size < 0 && errno == EAGAIN;
        guest->held += size;
        guest->request[guest->held] = 0;
        if (strstr(guest->request, "\r\n\r\n"))
            answer(guest);
        else if (guest->held == sizeof guest->request - 1)
            return 0;
    }
}

static void run_backend(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(number(argc, argv, "at", 0)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, poll = epoll_create1(EPOLL_CLOEXEC);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&at, sizeof at) || listen(listening, 4096))
        die("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll, EPOLL_CTL_ADD, listening, &event);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct guest *guest = events[i].data.ptr;
            if (guest && !attend(guest)) {
                close(guest->fd);
                free(guest);
            } else if (!guest) {
                int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd < 0)
                    continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                guest = calloc(1, sizeof *guest);
                guest->fd = fd;
                event = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET,
                                             .data.ptr = guest};
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && !strcmp(argv[1], "backend"))
        run_backend(argc, argv);
    else if (argc > 1 && (!strcmp(argv[1], "visit") || !strcmp(argv[1], "stand")))
        run_client(argc, argv);
    else
        return 2;
    return 0;
}
