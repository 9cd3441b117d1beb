"""Invented texts for the sample: templates and fillers per policy, language and kind. Mild, no real person or slur.

Kinds: ``fine``, ``bad`` (with a degree), and the hard cases ``quote`` (fine: reports what somebody said), ``counter``
(fine: speaks against it), ``obfuscated`` (bad, spelt to dodge filters).
"""

from __future__ import annotations

Templates = dict[str, dict[str, list[str]]]

FILLERS: dict[str, dict[str, list[str]]] = {
    "en": {
        "name": ["Robin", "Casey", "Jo", "Sam", "Alex", "Kim", "Max", "Toni", "Chris", "Pat"],
        "thing": ["recipe", "match", "episode", "photo", "bike tour", "concert", "painting", "garden", "video", "book"],
        "place": ["the park", "the harbour", "the library", "the old bridge", "the market", "the stadium"],
        "time": ["this morning", "last night", "on Sunday", "a week ago", "yesterday", "after lunch"],
        "insult": ["clown", "loser", "windbag", "nitwit", "pest", "fraud"],
        "good": ["oak table", "winter coat", "camera lens", "kettle", "board game", "guitar strings", "desk lamp", "tent"],
        "banned": ["forged bus passes", "stolen account vouchers", "uncertified pills", "counterfeit perfume",
                   "prescription syrup without papers", "lock-bypass kits", "replica exam papers"],
        "limited": ["kitchen knives", "craft gin", "fireworks", "e-cigarette liquid", "hunting arrows", "lottery tickets"],
        "money": ["300", "450", "1,200", "75", "980", "2,500"],
        "firm": ["Blue Kite Bank", "Harbour Parcel", "Luma Energy", "Northgate Invest", "Cedar Mobile"],
    },
    "zh": {
        "name": ["小林", "阿杰", "小雨", "老周", "阿宁", "小满", "大刚", "阿青"],
        "thing": ["菜谱", "比赛", "视频", "照片", "演出", "小说", "骑行路线", "花园"],
        "place": ["公园", "码头", "图书馆", "老桥边", "市场", "体育场"],
        "time": ["今天早上", "昨晚", "周日", "上周", "刚才", "午饭后"],
        "insult": ["小丑", "废物", "骗子", "笨蛋", "讨厌鬼"],
        "good": ["木桌", "冬衣", "镜头", "水壶", "桌游", "吉他弦", "台灯", "帐篷"],
        "banned": ["假公交卡", "盗来的账号券", "没有批号的药片", "仿冒香水", "无处方止咳水", "考试答案"],
        "limited": ["厨刀", "手工酒", "烟花", "电子烟油", "彩票"],
        "money": ["300", "450", "1200", "75", "980", "2500"],
        "firm": ["蓝鸢银行", "港湾快递", "流明能源", "北门投资", "雪松通信"],
    },
    "es": {
        "name": ["Luz", "Noa", "Leo", "Iker", "Sol", "Ares", "Vera", "Teo"],
        "thing": ["receta", "partido", "capítulo", "foto", "ruta en bici", "concierto", "cuadro", "vídeo"],
        "place": ["el parque", "el puerto", "la biblioteca", "el puente viejo", "el mercado", "el estadio"],
        "time": ["esta mañana", "anoche", "el domingo", "hace una semana", "ayer", "después de comer"],
        "insult": ["payaso", "perdedor", "pesado", "farsante", "inútil"],
        "good": ["mesa de roble", "abrigo", "objetivo de cámara", "tetera", "juego de mesa", "lámpara", "tienda de campaña"],
        "banned": ["bonos de bus falsos", "cupones de cuentas robadas", "pastillas sin certificado",
                   "perfume falsificado", "jarabe sin receta", "exámenes filtrados"],
        "limited": ["cuchillos de cocina", "ginebra artesana", "petardos", "líquido de vapeo", "lotería"],
        "money": ["300", "450", "1.200", "75", "980", "2.500"],
        "firm": ["Banco Cometa Azul", "Paquetes Bahía", "Luma Energía", "Inversiones Puerta Norte", "Móviles Cedro"],
    },
}  # fmt: skip

HARASSMENT: Templates = {
    "en": {
        "fine": [
            "Lovely {thing}, {name}! I went to {place} {time} and thought of it.",
            "I do not agree about the {thing}, {name}, but thanks for explaining it so calmly.",
            "Did anybody see the {thing} {time}? The ending at {place} surprised me.",
            "The {thing} was too long for my taste, still worth the trip to {place}.",
            "{name}, could you post the {thing} again? The link from {time} is gone.",
            "This {thing} is terrible, the sound broke off {time} and nobody fixed it.",
        ],
        "mild": [
            "{name}, only a {insult} would like this {thing}. Go away.",
            "What a {insult}. Nobody asked you about the {thing}, {name}.",
            "Typical {insult} talk from {name} again, same as {time}.",
            "You are a {insult}, {name}, and your {thing} shows it.",
        ],
        "severe": [
            "{name}, I know you are at {place} {time}. Watch your back, {insult}.",
            "Everyone report {name} until this {insult} is gone, then find the {thing} and ruin it.",
            "We will follow you from {place}, {name}, you {insult}. Every single day.",
            "{name} the {insult} should be afraid to show up at {place} ever again.",
        ],
        "quote": [
            'Someone wrote to {name}: "you {insult}, go away". Moderators, please look at {place} thread.',
            'In the {thing} the villain says "watch your back, {insult}" and then trips over a chair.',
            'My teacher read out "{insult}" from an old play {time} and we discussed the word.',
        ],
        "counter": [
            "Calling {name} a {insult} is not okay. Argue about the {thing}, not the person.",
            "Please stop following {name} around. Nobody deserves to be scared at {place}.",
        ],
        "obfuscated": [
            "{name} is a {insult_o} and everyone at {place} knows it",
            "shut it {insult_o}, your {thing} is rubbish",
        ],
    },
    "zh": {
        "fine": [
            "{name}，你的{thing}真好，我{time}在{place}也看到了。",
            "关于{thing}我不太同意，不过谢谢{name}耐心解释。",
            "{time}有人在{place}看{thing}吗？结尾很意外。",
            "{thing}太长了，不过去{place}一趟还是值得。",
            "{name}可以再发一次{thing}吗？{time}的链接打不开了。",
        ],
        "mild": [
            "{name}，只有{insult}才喜欢这种{thing}，走开。",
            "真是个{insult}，{name}，没人问你{thing}的事。",
            "{name}又来了，{time}就这样，{insult}一个。",
        ],
        "severe": [
            "{name}，我知道你{time}在{place}，小心点，{insult}。",
            "大家一起举报{name}，直到这个{insult}消失为止，连{thing}也别放过。",
            "我们会从{place}一直跟着你，{name}，{insult}，天天跟。",
        ],
        "quote": [
            "有人对{name}说“你这个{insult}，走开”，请管理员看看{place}那个帖子。",
            "{thing}里的反派说“小心点，{insult}”，然后自己摔倒了。",
        ],
        "counter": [
            "叫{name}“{insult}”是不对的，讨论{thing}，不要针对人。",
            "请不要再跟着{name}了，谁都不该在{place}害怕。",
        ],
        "obfuscated": ["{name}就是个{insult_o}，{place}的人都知道", "闭嘴吧{insult_o}，你的{thing}真烂"],
    },
    "es": {
        "fine": [
            "¡Qué bonita {thing}, {name}! Estuve en {place} {time} y me acordé.",
            "No estoy de acuerdo con {name}, pero gracias por explicarlo con calma {time}.",
            "¿Alguien vio {thing} {time}? El final en {place} me sorprendió.",
            "Se me hizo largo, pero mereció la pena ir a {place} {time}.",
        ],
        "mild": [
            "{name}, solo a un {insult} le gusta esto. Vete ya.",
            "Menudo {insult}. Nadie te preguntó por {thing}, {name}.",
            "Otra vez {name} hablando como un {insult}, igual que {time}.",
        ],
        "severe": [
            "{name}, sé que estás en {place} {time}. Ten cuidado, {insult}.",
            "Denunciad todos a {name} hasta que ese {insult} desaparezca de {place}.",
            "Te vamos a seguir desde {place}, {name}, {insult}. Todos los días.",
        ],
        "quote": ['Alguien le escribió a {name}: "vete, {insult}". Moderadores, mirad el hilo de {place}.'],
        "counter": ["Llamar {insult} a {name} no está bien. Discute sobre {thing}, no sobre la persona."],
        "obfuscated": ["{name} es un {insult_o} y en {place} lo sabe todo el mundo"],
    },
}

GOODS: Templates = {
    "en": {
        "fine": [
            "For sale: {good}, hardly used, pick up near {place} for {money}.",
            "Selling my {good} because I am moving. Bought {time}, works well.",
            "Looking for a {good} in good shape, can pay {money}.",
            "{good}, some scratches, otherwise fine. Swap for a {thing} possible.",
        ],
        "restricted": [
            "{limited} for sale, pick up at {place}, {money} the lot.",
            "Box of {limited}, bought {time}, not opened. Age check at pick up.",
            "Trading {limited} for a {good}, message me.",
        ],
        "prohibited": [
            "{banned} in stock again, {money}, no questions asked.",
            "Fresh {banned}, discreet parcel from {place}, pay {money} first.",
            "Need {banned}? Write to {name}, delivery {time} or refund.",
        ],
        "quote": [
            'Warning: a seller near {place} offers "{banned}". I reported it {time}.',
            "Our museum shows seized {banned}. Tickets {money}, come to {place}.",
        ],
        "counter": ["Do not buy {banned} from anybody here, {name} lost {money} that way."],
        "obfuscated": ["got {banned_o} {money} write me", "{banned_o}, pick up {place}, quick"],
    },
    "zh": {
        "fine": ["转让{good}，几乎没用过，{place}附近自取，{money}元。", "搬家出{good}，{time}买的，好用。", "求购{good}，成色好就行，{money}元。"],
        "restricted": ["出{limited}，{place}自取，一共{money}元。", "一箱{limited}，{time}买的，没拆，取货要看证件。"],
        "prohibited": ["{banned}到货，{money}元，不问来路。", "全新{banned}，从{place}发，先付{money}元。", "要{banned}的找{name}，{time}就能送。"],
        "quote": ["提醒：{place}附近有人卖“{banned}”，我{time}已经举报了。"],
        "counter": ["别在这里买{banned}，{name}就这样被骗了{money}元。"],
        "obfuscated": ["有{banned_o} {money} 私聊", "{banned_o}，{place}拿，快"],
    },
    "es": {
        "fine": ["Vendo {good}, casi sin uso, recogida en {place}, {money}.", "Busco {good} en buen estado, pago {money}.", "Vendo {good} por mudanza, comprado {time}, funciona bien."],
        "restricted": ["Vendo {limited}, recogida en {place}, {money} todo.", "Caja de {limited}, comprada {time}, sin abrir. Solo adultos."],
        "prohibited": ["Otra vez hay {banned}, {money}, sin preguntas.", "Envío {banned} desde {place}, paquete discreto, {money} por adelantado."],
        "quote": ['Aviso: en {place} ofrecen "{banned}". Lo denuncié {time}.'],
        "counter": ["No compréis {banned} aquí, {name} perdió {money} así."],
        "obfuscated": ["tengo {banned_o} {money} escribe"],
    },
}  # fmt: skip

SCAMS: Templates = {
    "en": {
        "fine": [
            "{firm} opens a new branch near {place}. Come by {time} and have a look.",
            "Learn to repair your {good} in our evening course at {place}, {money} for six evenings.",
            "Spring sale: every {good} now from {money}. While stocks last.",
            "Free concert at {place} {time}. No booking needed, bring a friend.",
        ],
        "bad": [
            "{firm} has blocked your account. Confirm your card and code here within {money} minutes.",
            "Turn {money} into ten times as much by tomorrow. {name} did it, guaranteed, no risk.",
            "Your parcel waits at {place}. Pay a fee of {money} and your PIN to release it.",
            "You won the {thing} draw! Send {money} for shipping to collect your prize {time}.",
            "Work from home, {money} a day, no skills. First buy the starter pack from {name}.",
        ],
        "quote": [
            '{firm} warns: messages saying "your account is blocked, send your code" are not from us.',
            "How to spot a fake parcel notice: five signs, explained by {firm}.",
        ],
        "counter": ["Never send {money} to claim a prize. If in doubt ask at {place}."],
        "obfuscated": ["g u a r a n t e e d {money} per day, ask {name}", "fr33 m0ney {money}, just send y0ur c0de"],
    },
    "zh": {
        "fine": ["{firm}在{place}附近开了新门店，{time}欢迎来看看。", "春季促销，{good}{money}元起，售完为止。", "{place}{time}免费演出，不用预约。"],
        "bad": [
            "{firm}已冻结您的账户，请在{money}分钟内填写卡号和验证码。",
            "投{money}明天变十倍，{name}已经赚到，保证无风险。",
            "您的包裹在{place}，请付{money}元和密码后领取。",
            "恭喜您在{thing}抽奖中奖，先汇{money}元运费领奖。",
        ],
        "quote": ["{firm}提醒：凡说“账户被冻结，请发验证码”的短信都不是我们发的。"],
        "counter": ["领奖先汇{money}元的都别信，不确定就去{place}问问。"],
        "obfuscated": ["日 赚 {money} 找{name} 稳", "免-费-领 {money} 发验-证-码即可"],
    },
    "es": {
        "fine": ["{firm} abre nueva oficina cerca de {place}. Ven {time}.", "Rebajas: {good} desde {money}. Hasta fin de existencias.", "Concierto gratis en {place} {time}, sin reserva."],
        "bad": [
            "{firm} ha bloqueado tu cuenta. Confirma tarjeta y código en {money} minutos.",
            "Convierte {money} en diez veces más mañana. {name} lo hizo, garantizado.",
            "Tu paquete espera en {place}. Paga {money} y tu PIN para recibirlo.",
        ],
        "quote": ['{firm} avisa: los mensajes de "cuenta bloqueada, envía tu código" no son nuestros.'],
        "counter": ["Nunca envíes {money} para cobrar un premio. Pregunta en {place}."],
        "obfuscated": ["d1nero gr4tis {money}, manda tu c0digo"],
    },
}  # fmt: skip
