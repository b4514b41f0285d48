"""Texts of the page, Chinese and English."""

from __future__ import annotations

from ballast.demo.words import Pair

PAGE: dict[str, Pair] = {
    "title": ("2020 年 2 月 23 日的重演", "The replay of 23 February 2020"),
    "lead": (
        "一个平台、真实的顾客请求，数据库被整个毁掉。店铺应当照常营业，已确认的一切应当都在。",
        "A platform with live shoppers loses its whole database. Shops are to go on, and what was acknowledged is to be there.",
    ),
    "kept": ("所有承诺都兑现了", "every promise was kept"),
    "broken": ("项承诺未兑现", "promises were broken"),
    "shops": ("家店铺", "shops"),
    "how.rows": ("删除所有行", "every row deleted"),
    "how.files": ("服务器被杀，数据目录被删", "server killed, data folder removed"),
    "how.both": ("先删除所有行，两秒后删除服务器", "every row deleted, then the server removed"),
    "how.changes": ("三分之一店铺的价格、地址、库存被改", "prices, addresses and stock of every third shop changed"),
    "seed": ("种子", "seed"),
    "card.closed": ("店铺关门（分钟，所有店铺合计）", "minutes that shops were closed, all together"),
    "card.lost": ("丢失的已确认订单", "acknowledged orders lost"),
    "card.doubled": ("重复的订单", "orders doubled"),
    "card.away": ("数据库不在时收下的订单", "orders taken while the database was away"),
    "card.first": ("秒后收下第一单", "seconds until the first order was taken"),
    "card.all": ("秒后所有店铺回家并合并", "seconds until all shops were home and merged"),
    "card.cheap": ("错误价格下的订单", "orders at a wrong price"),
    "card.found": ("秒后从记录中找到", "seconds until it was found"),
    "card.undone": ("秒后撤销", "seconds until it was undone"),
    "timeline": ("经过", "What happened"),
    "since": ("丢失后的秒数", "seconds after the loss"),
    "plots": ("曲线", "Plots"),
    "plot.orders": ("每秒订单", "Orders a second"),
    "plot.views": ("每秒页面", "Pages a second"),
    "plot.back": ("已回家的店铺", "Shops that are home"),
    "plot.first": (
        "丢失后每家店铺的首次访问（毫秒，对数）",
        "First visit to each shop after the loss (ms, logarithmic)",
    ),
    "legend.orders": ("每秒；粗线为五秒平均", "each second; thick: mean of five"),
    "legend.views": ("页面", "pages"),
    "legend.errors": ("错误", "errors"),
    "legend.away": ("数据库不在", "database away"),
    "legend.returning": ("店铺陆续回家", "shops come home"),
    "promises": ("承诺", "Promises"),
    "mark.kept": ("兑现", "kept"),
    "mark.broken": ("未兑现", "broken"),
    "mark.shown": ("仅显示", "shown"),
    "wrong": ("哪里不对", "What was wrong"),
    "figures": ("数字", "Figures"),
    "figure.server": ("丢失到新服务器就绪", "from the loss to the new server"),
    "figure.first_home": ("丢失到第一家店铺回家", "from the loss to the first shop at home"),
    "figure.merged": ("不在期间的订单：已合并 / 收下", "orders taken while away: merged / taken"),
    "figure.excepted": (
        "不在期间的订单：作为异常交给商家",
        "orders taken while away: before the merchant as exceptions",
    ),
    "figure.deeds": ("合并的操作 / 异常", "deeds merged / in exception"),
    "figure.first_visit": ("丢失后店铺的首个页面", "first page of a shop after the loss"),
    "figure.page_before": ("丢失前的页面", "a page before the loss"),
    "figure.pages": ("显示的页面总数", "pages shown, in all"),
    "figure.changes": ("商家的修改：已保存 / 当时不能", "merchants' changes: saved / not possible just then"),
    "figure.deleted": ("被删除的行", "rows deleted"),
    "peers": ("与其他事故相比", "Beside other losses"),
    "peer.who": ("事故", "incident"),
    "peer.down": ("停业", "closed"),
    "peer.all": ("全部恢复", "all back after"),
    "peer.lost": ("丢失的数据", "data lost"),
    "peer.meanwhile": ("期间的订单", "business meanwhile"),
    "peer.note": (
        "他人的数字取自其公开公告与事故报告；规模不同，只能比较做法，不能比较机器。",
        "Others' figures are from their public announcements and reports. The sizes differ: it compares ways, not machines.",
    ),
    "method": ("如何测量", "How it was measured"),
    "method.1": (
        "顾客按固定节奏到来，与店铺应答快慢无关；每收到一个确认，先写入账本，再继续。",
        "Shoppers come at an even pace, however fast shops answer; each answer is written down before its shopper goes on.",
    ),
    "method.2": (
        "店铺从一次失败的请求起算关门，直到下一次成功的请求；其间无人访问也算关门。",
        "A shop counts as closed from a request that failed to the next that did not, also where nobody asked in between.",
    ),
    "method.3": (
        "每单的备注里有一个只用一次的标记：同一标记出现两次就是重复。",
        "Each order bears a mark in its note that is used once: twice the same mark is a doubled order.",
    ),
    "method.4": (
        "结束后，每家店铺都从记录恢复到另一台服务器上，逐表比对行数与校验和（ballast drill --all）。",
        "At the end every shop is restored from the record on another server and compared, rows and sums of each table"
        " (ballast drill --all).",
    ),
    "made": ("由 Ballast 生成", "made by Ballast"),
}

PEERS: tuple[tuple[Pair, ...], ...] = (
    (
        ("微盟 2020：约三百万商家", "Weimob 2020: some three million merchants"),
        ("新用户约 2 天，老用户至 3 月 3 日", "some 2 days for new users, until 3 March for the others"),
        ("约 8 天半（3 月 3 日）", "some 8½ days (3 March)"),
        ("无（3 月 1 日全部找回）", "none (all found by 1 March)"),
        ("3 天后“临时过渡方案”，最后合并", "after 3 days a temporary plan, merged at the end"),
    ),
    (
        ("Atlassian 2022：775 家客户的 883 个站点", "Atlassian 2022: 883 sites of 775 customers"),
        ("最长约 14 天", "up to some 14 days"),
        ("约 14 天", "some 14 days"),
        ("约 5 分钟以内", "less than some 5 minutes"),
        ("无", "none"),
    ),
    (
        ("GitLab 2017：GitLab.com", "GitLab 2017: GitLab.com"),
        ("约 18 小时", "some 18 hours"),
        ("约 18 小时", "some 18 hours"),
        ("约 6 小时", "some 6 hours"),
        ("无", "none"),
    ),
)
"""Who; how long closed; until all were back; data lost; business meanwhile."""
