"""Servers from Debian 12 as peers: how each is started, without systemd, at two addresses of its own.

`tests/install_servers.sh` puts the packages on a machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from real_processes import NAME, UNPACKED, Place, Unavailable, bracketed, needs_users, program, running, with_user


@contextmanager
def kamailio(where: Place) -> Iterator[None]:
    """SIP over UDP, TCP and TLS; every request is answered 200."""
    command = program("kamailio", "kamailio")
    modules = next(Path("/usr/lib").glob("*/kamailio/modules"))
    if not (modules / "tls.so").exists():
        raise Unavailable("Debian's package kamailio-tls-modules is not there (tests/install_servers.sh)")
    config = where.write(
        "kamailio.cfg",
        f"""children=1
tcp_children=1
enable_tls=yes
mpath="{modules}/"
loadmodule "sl.so"
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{where.certificate}")
modparam("tls", "private_key", "{where.certificate}")
request_route {{
    sl_send_reply("200", "OK");
}}
""",
    )
    hosts = [bracketed(address) for address in where.addresses]
    listen = [f"{how}:{host}:{port}" for host in hosts for how, port in (("udp", 5060), ("tcp", 5060), ("tls", 5061))]
    options = ["-f", str(config), "-DD", "-E", "-m", "64", "-M", "8", "-Y", str(where.folder)]
    listeners = [word for one in listen for word in ("-l", one)]
    with running(where, [command, *options, *listeners], where.listening("udp/5060", "tcp/5060", "tcp/5061")):
        yield


@contextmanager
def baresip(where: Place) -> Iterator[None]:
    """A SIP phone, one process for each address: it listens at one."""
    command = program("baresip", "baresip-core")
    modules = Path("/usr/lib/baresip/modules")
    with ExitStack() as stack:
        for address in where.addresses:
            host = bracketed(address)
            family = "6" if ":" in address else "4"
            folder = where.make(f"baresip{family}")
            where.write(
                f"{folder.name}/config",
                f"""sip_listen {host}:5060
sip_certificate {where.certificate}
net_interface {address}
module_path {modules}
module_app account.so
module_app menu.so
""",
            )
            where.write(f"{folder.name}/accounts", f"<sip:handset@{host}>;regint=0\n")
            where.write(f"{folder.name}/contacts", "")
            ready = [("udp", address, 5060), ("tcp", address, 5060), ("tcp", address, 5061)]
            stack.enter_context(running(where, [command, f"-{family}", "-f", str(folder)], ready))
        yield


@contextmanager
def nginx(where: Place) -> Iterator[None]:
    """HTTP and HTTPS, on the ports of admin pages too."""
    command = program("nginx", "nginx")
    where.make("www")
    hosts = [bracketed(address) for address in where.addresses]
    old, new = (
        " ".join(f"listen {host}:{port};" for host in hosts for port in ports)
        for ports in (("80", "8080", "443 ssl"), ("8443 ssl",))
    )
    config = where.write(
        "nginx.conf",
        f"""daemon off;
user root;
worker_processes 1;
pid {where.folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    {" ".join(f"{kind}_temp_path {where.folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))}
    ssl_certificate {where.certificate};
    ssl_certificate_key {where.certificate};
    root {where.folder}/www;
    server {{
        {old}
        ssl_protocols TLSv1.2;
    }}
    server {{
        {new}
        ssl_protocols TLSv1.3;
    }}
}}
""",
    )
    ready = where.listening("tcp/80", "tcp/8080", "tcp/443", "tcp/8443")
    with running(where, [command, "-e", "stderr", "-c", str(config)], ready):
        yield


@contextmanager
def vsftpd(where: Place) -> Iterator[None]:
    """FTP, one process for each family."""
    command = program("vsftpd", "vsftpd")
    empty = where.make("empty", 0o555)
    with ExitStack() as stack:
        for address in where.addresses:
            listen = "listen_ipv6=YES\nlisten_address6" if ":" in address else "listen=YES\nlisten_address"
            config = where.write(
                f"vsftpd{'6' if ':' in address else '4'}.conf",
                f"{listen}={address}\nbackground=NO\nanonymous_enable=YES\nrun_as_launching_user=YES\nsecure_chroot_dir={empty}\n",
            )
            stack.enter_context(running(where, [command, str(config)], [("tcp", address, 21)]))
        yield


@contextmanager
def snmpd(where: Place) -> Iterator[None]:
    """SNMP without any community or user: it only tells who made its engine."""
    command = program("snmpd", "snmpd")
    config = where.write("snmpd.conf", "")
    listen = [f"udp6:[{address}]:161" if ":" in address else f"udp:{address}:161" for address in where.addresses]
    options = ["-f", "-Lo", "-C", "-c", str(config), "-p", f"{where.folder}/pid", "-I", "snmpEngine"]
    state = where.make("snmp")
    with running(
        where, [command, *options, *listen], where.listening("udp/161"), SNMP_PERSISTENT_DIR=str(state), MIBS=""
    ):
        yield


@contextmanager
def postfix(where: Place, ports: Mapping[int, str]) -> Iterator[None]:
    """SMTP on these ports: in "clear" only, with "starttls", or in "tls" from the start."""
    command = program("postfix", "postfix")
    needs_users("Postfix")
    config, spool, data = where.make("postfix"), where.make("spool"), where.make("data")
    shutil.chown(data, "postfix", "postfix")
    options = {
        "clear": "-o smtpd_tls_security_level=none",
        "starttls": "-o smtpd_tls_security_level=may",
        "tls": "-o smtpd_tls_wrappermode=yes",
    }
    sockets = [
        f"{bracketed(address)}:{port} inet n - n - - smtpd {options[how]}"
        for address in where.addresses
        for port, how in ports.items()
    ]
    helpers = """cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
    where.write("postfix/master.cf", "\n".join(sockets) + "\n" + helpers)
    banner = (
        "$myhostname ESMTP $mail_name (Debian/GNU)" if "clear" in ports.values() else "$myhostname ESMTP $mail_name"
    )
    where.write(
        "postfix/main.cf",
        f"""compatibility_level = 3.6
myhostname = {NAME}
smtpd_banner = {banner}
mydestination =
alias_maps =
inet_protocols = all
queue_directory = {spool}
data_directory = {data}
maillog_file = /dev/stdout
smtpd_tls_chain_files = {where.certificate}
smtpd_peername_lookup = no
""",
    )
    ready = where.listening(*(f"tcp/{port}" for port in ports))
    with running(where, [command, "-c", str(config), "start-fg"], ready):
        yield


@contextmanager
def dovecot(where: Place, imap: Mapping[int, str], pop3: Mapping[int, str]) -> Iterator[None]:
    """IMAP and POP3 on these ports: with "starttls" or in "tls" from the start."""
    command = program("dovecot", "dovecot-imapd")
    program("/usr/lib/dovecot/pop3-login", "dovecot-pop3d")
    needs_users("Dovecot")
    services = ""
    for protocol, ports in (("imap", imap), ("pop3", pop3)):
        by_how = {how: port for port, how in ports.items()}
        for name, how in ((protocol, "starttls"), (f"{protocol}s", "tls")):
            # Port 0 is none; without it the listener would take its standard port.
            listener = f"port = {by_how.get(how, 0)}\n    ssl = {'yes' if how == 'tls' else 'no'}"
            services += f"service {protocol}-login {{\n  inet_listener {name} {{\n    {listener}\n  }}\n}}\n"
    config = where.write(
        "dovecot.conf",
        f"""protocols = imap pop3
listen = {", ".join(where.addresses)}
base_dir = {where.make("dovecot/run")}
state_dir = {where.make("dovecot/state")}
log_path = /dev/stderr
ssl = yes
ssl_cert = <{where.certificate}
ssl_key = <{where.certificate}
passdb {{
  driver = static
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
{services}
""",
    )
    ready = where.listening(*(f"tcp/{port}" for port in (*imap, *pop3)))
    with running(where, [command, "-F", "-c", str(config)], ready):
        yield


@contextmanager
def exim(where: Place) -> Iterator[None]:
    """SMTP with STARTTLS, from the unpacked package.

    Its user is fixed when it is built, and made by a package that conflicts with Postfix.
    """
    program_ = program("exim4", "exim4-daemon-light")
    needs_users("Exim")
    spool = where.make("spool", 0o777)
    config = where.write(
        "exim.conf",
        f"""primary_hostname = {NAME}
spool_directory = {spool}
log_file_path = {spool}/%slog
pid_file_path = {where.folder}/pid
exim_user = nobody
exim_group = nogroup
daemon_smtp_ports = 25
local_interfaces = <; {" ; ".join(where.addresses)}
tls_certificate = {where.certificate}
tls_privatekey = {where.certificate}
tls_advertise_hosts = *
host_lookup =
keep_environment =
""",
    )
    command = [*with_user(where, "Debian-exim", 65533), program_, "-C", str(config), "-bdf"]
    with running(where, command, where.listening("tcp/25")):
        yield


@contextmanager
def courier(where: Place) -> Iterator[None]:
    """IMAP and POP3 with STARTTLS, from the unpacked packages."""
    front = program("couriertcpd", "courier-base")
    imap, imap_login = program("imapd", "courier-imap"), UNPACKED / "usr/lib/courier/courier/imaplogin"
    pop3_login = Path(program(str(UNPACKED / "usr/lib/courier/courier/courierpop3login"), "courier-pop"))
    needs_users("Courier")
    user = with_user(where, "courier", 65533)  # for its TLS helper
    with ExitStack() as stack:
        for address in where.addresses:
            for port, talk in (
                (143, [str(imap_login), imap]),
                (110, [str(pop3_login), str(pop3_login.parent / "none")]),
            ):
                stack.enter_context(
                    running(
                        where,
                        [
                            *user,
                            front,
                            f"-address={address}",
                            "-nodnslookup",
                            "-noidentlookup",
                            str(port),
                            *talk,
                            "Maildir",
                        ],
                        [("tcp", address, port)],
                        LD_LIBRARY_PATH=f"{UNPACKED}/usr/lib/courier-authlib:{UNPACKED}/usr/lib",
                        IMAP_CAPABILITY="IMAP4rev1 UIDPLUS CHILDREN NAMESPACE QUOTA IDLE",
                        IMAP_STARTTLS="YES",
                        POP3_STARTTLS="YES",
                        COURIERTLS=str(UNPACKED / "usr/bin/couriertls"),
                        TLS_CERTFILE=str(where.certificate),
                    )
                )
        yield
