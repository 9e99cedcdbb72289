"""Words that providers put into host names, by what they say about the host.

Data for :mod:`botmilter.names`: a word in a table is the whole sermon, a new language is a new
line.  Words are lower case, without digits; they are looked for as whole pieces of a name (what
stands between dots, hyphens, underscores and digits), never in the registered domain, because
``cable.example`` is a company and ``cable-12.example.net`` a customer.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: The line belongs to a provider's end customers: access technology, or address by lease.
POOL = (
    # lease and pool, in whatever language
    _words(
        "dyn dynamic dynamicip dynip dhcp pool pools poolip ippool bootp pppool dip dyna "
        "dinamic dinamico dinamica dinamicos dynamique dynamisch dynamik din dinip iptemp "
        "temporary tmpip dinamik dynamiczny dynamiczne zmienne auto nonreg unassigned"
    )
    # telephone and ISDN
    | _words(
        "dial dialup dialin dialins dialpool dialuser dialer dup ppp slip modem modems isdn "
        "rnis analog pots max ascend tnt pri maxtnt dialcall einwahl wahl ras nas bras lns lac "
        "discado discada conexion accesso tele"
    )
    # DSL
    | _words(
        "dsl adsl vdsl sdsl xdsl gdsl rdsl idsl hdsl dslpool dslam dsldyn dyndsl ndsl bdsl "
        "adslpool adsldyn adslgp pppoe pppoa pppoex speedy bredband bredbaand breedband "
        "breitband velox veloxzone turbonett arcor tdsl teksavvy"
    )
    # cable, fibre to the home, wireless
    | _words(
        "cable cables cablemodem cablep catv hfc docsis cm cmts kabel kabelnet kabelbw coax cpe "
        "fttx ftth fttb fiber fibre fibra flets bflets hikari ftthdyn wimax wireless wifi wlan "
        "mobile gprs umts edge lte hsdpa evdo cdma gsm cell cellular mobil movil celular "
        "broadband bband bb homeuser residential resi res homenet home"
    )
    # customers
    | _words(
        "cust custs customer customers client clients cliente clientes clienti kunde kunden "
        "klant klanten klient abonado abonados abo abonne abonnes abonnement abonent subscriber "
        "subscribers subs sub user users usuario usuarios utente utenti usr enduser endusers"
    )
)

#: The address or the place in a rack, without saying whose: half a hint.
NUMBERED = _words(
    "ip ipv host hosts node addr address adr net netblock range block rev reverse inaddr unknown "
    "unused noptr ptr arpa generic wks ws workstation"
)

#: A fixed line: an office's own mail server often sits on one.
STATIC = _words(
    "static stat sta statip staticip fixed fix fixedip fija fijo fisso estatico estatica "
    "statisch statique statico statica staticky stale feste festip fest business biz corp "
    "corporate corporativo dedicated dedicado dedi ded colo colocation housing vps vds cloud "
    "compute server servers srv hosting hosted"
)

#: Hosts that hand over mail.
MAIL = _words(
    "mail mails mailer mailers mailgw mailgate mailhost mailhub mailin mailout mailrelay "
    "mailserver mailsrv mailbox mailx email emails emailer smtp esmtp smtps smtpout smtpin "
    "smtpgw smtprelay smtpauth asmtp msa mx mxs mxout mxin mxbackup mta mtas mtaout mtain relay "
    "relays relayout out outbound outgoing outgo inbound incoming omta imta vmta pmta postfix "
    "exim qmail sendmail exchange exch owa notes domino lotus groupwise zimbra courier dovecot "
    "imap pop mbox mua postmaster antispam antivirus spamfilter filter mimesweeper ironport "
    "barracuda webshield proofpoint list lists listserv majordomo mailman news newsletter "
    "newsletters bounce bounces return feedback send sender senders sending delivery deliver "
    "bulk bulkmail marketing campaign correo correio correos courriel courrier post posta "
    "postar poste postit postman poczta posti maileb pochta smarthost forward forwarder "
    "forwarders fwd fwdmail webmail"
)

#: Hosts that are run by somebody, whatever they are for.
SERVICE = _words(
    "www web webserver ns dns nameserver server servers srv serv gw gate gateway fw firewall "
    "proxy ftp vpn router cluster vps vds app apps api db sql cvs svn git ssh shell unix linux "
    "sun solaris main master primary secondary prod core admin office intranet extern external "
    "internal portal hosting shared cpanel plesk colo"
)

#: Mail providers everybody knows, whatever their top-level domain: their bare domain is the name
#: that mass mailers like to greet with, and never that of one of their hosts.
PROVIDERS = _words(
    "yahoo hotmail aol gmail googlemail google msn live outlook microsoft icloud me mac lycos "
    "excite altavista netscape compuserve juno netzero earthlink hotbot eudoramail mail email "
    "gmx web freenet caramail mixmail terra bluemail tiscali libero wanadoo orange yandex "
    "rambler qq sina sohu naver hanmail daum rediffmail bigfoot usa iname postmaster proton "
    "protonmail zoho"
)
