"""The rules for prompt injection as a table: id, weight, words that the text must hold, pattern.

They are matched on folded text in small letters, so accents are left out. In a phrase a space is any gap between two
words, and `<n>` up to n words. A weight of `THRESHOLD` (injection.py) or more is a hit by itself.
"""

# ruff: noqa: E501
# A pattern is easier to read as one line.

from __future__ import annotations

_OVERRIDE = (
    "(?:ignor(?:e|ing)|disregard|forget|discard|(?<!s\\x20)override|overlook|bypass|neglect|set aside|put aside|drop|abandon|skip|erase|"
    "cancel|delete|stop following|stop obeying|(?:do not|don t|no longer|not have to|don t have to) (?:follow|obey|adhere to|heed))"
)
_RULES = (
    "(?:instructions?|guidelines?|guidance|directives?|prompts?|commands|orders|constraints|restrictions|rules|"
    "programming|directions|training|safeguards)"
)
_EARLIER = (
    "(?:previous(?:ly)?|prior|earlier|above|preceding|past|former|initial|original|foregoing|existing|old|system|"
    "developers?|every|any|all|these|those)"
)
_AI = (
    "(?:ai|llms?|language models?|ai (?:assistants?|agents?|models?|systems?|code assistants?)|assistants?|chatbots?|"
    "copilot|chatgpt|gpt|coding agents?|agents?|automated (?:screening )?systems?)"
)
_PROMPT = (
    "(?:system (?:prompts?|messages?|instructions?)|system ?prompt|(?:hidden|initial|secret|developer|original|internal|base|pre) "
    "(?:prompt|message|instructions?|rules))"
)
_SHOW = (
    "(?:reveal|show|print|output|display|repeat|tell|give|dump|leak|expose|share|write|copy|list|translate|summari[sz]e|recite|"
    "paste|encode|disclose|return|send|say|quote|describe|append|what is|what s|what are|what were|what was|what does)"
)
_FREE = "(?:restrictions?|rules|limits|limitations?|filters?|filtering|guidelines|ethic\\w*|moral\\w*|polic\\w+|constraints?|censorship|boundaries)"
_WITHOUT = (
    "(?:without|no|free from|freed from|free of|not bound by|ignor(?:es|ing)|lacking|unbound by|not have|never had)"
)

# id, weight, words of which a text must hold one, phrase
PHRASES: tuple[tuple[str, float, str, str], ...] = (
    # -- earlier text shall no longer count
    ("override_earlier", 0.85, "instruc guid direct prompt command order constrain restrict rules program",
     f"{_OVERRIDE}(?! case)<3> {_EARLIER}<3> {_RULES}"),
    ("override_yours", 0.8, "your", f"{_OVERRIDE}<3> your<3> (?:{_RULES}|polic\\w+|system prompt|filters?)"),
    ("override_given", 0.75, "instruc guid direct rules constrain",
     f"{_OVERRIDE}<3> {_RULES}<2> (?:above|so far|(?:that )?you (?:were|have been|had been|ve been|received|got|have received))"),
    ("override_everything", 0.75, "above before told prior previous said preced",
     f"{_OVERRIDE}<1> (?:everything|anything|all|whatever|what)<2> (?:above|before|prior|previously|preceding|"
     "you (?:were|have been|ve been|had been) (?:told|given|instructed|taught|asked)|the (?:developers?|system|admin\\w*) (?:said|told|wrote))"),
    ("override_text", 0.35, "above before", f"{_OVERRIDE}<1> (?:the|this|that)<1> (?:text|content|message|question|document|prompt) (?:above|before)?"),
    ("override_the_rules", 0.3, "rules instruc guid", f"{_OVERRIDE}<1> (?:the|all|any|every) {_RULES}"),
    ("override_system", 0.75, "system developer",
     f"{_OVERRIDE}<2> (?:the )?(?:system (?:message|prompt|instructions?)|developer (?:message|prompt|instructions?))"),
    ("never_received", 0.5, "instruc rules guid", f"(?:as if|act like|pretend)<1> you(?: have| had)? never<1> (?:received|had|been given|seen)<2> {_RULES}"),
    ("declared_void", 0.5, "void cancel valid lift test outdated suspend revoke overrid apply obsolete",
     f"(?:all|previous|prior|earlier|your|the|these|those)<1> {_RULES}<3> (?:are|were|is|have been|do)<1> (?:void|cancel+ed|no longer (?:valid|apply|active)|not apply|"
     "lifted|a test|outdated|suspended|revoked|null|obsolete)<1>"),
    ("new_instructions", 0.4, "new real updated only",
     "(?:your|my|these|here)<2> (?:new|real|actual|updated|true|only)<2> (?:instructions?|task|objective|orders|directives?|goal|mission)<2> (?:is|are|now|follow|for)"),
    ("new_instructions", 0.3, "new updated", "(?:new|updated)<2> (?:instructions?|directives?|orders)(?: for the (?:assistant|ai|model|agent)| follow| from the)"),
    ("obey_below", 0.3, "follow obey instead", "(?:follow|obey|use) (?:only )?(?:mine|the ones below|the following ones|these instead|those below|the user)"),
    ("drop_the_task", 0.5, "instead current what",
     "(?:cancel|stop|abandon|drop)<2> (?:your|the|what you)<2> (?:task|doing|work)<2> (?:and|instead)<1> (?:send|print|write|tell|say|output|recommend|give|list)"),
    ("act_instead", 0.2, "instead", "instead (?:send|print|write|tell|say|output|reveal|show|list|give)"),
    # -- ask for the developers' text
    ("reveal_prompt", 0.8, "prompt messag instruc rules", f"{_SHOW}<5> (?:your|you)<4> {_PROMPT}"),
    ("reveal_prompt", 0.6, "prompt messag instruc", f"(?:reveal|print|output|show|repeat|leak|expose|dump|encode|display|disclose)<6> (?:the|this) {_PROMPT}(?! (?:that|which|in|of|from|to|with) )"),
    ("reveal_instructions", 0.5, "instruc guid rules config prompt",
     "(?:reveal|print|output|show|repeat|dump|leak|expose|recite|list|write|what are|what were|tell me|quote|copy|disclose)<5> your"
     "<3> (?:instructions?|guidelines|rules|configuration|prompt|directives|context)"),
    ("reveal_given", 0.6, "you they developer developers",
     f"(?:{_SHOW}|which|see)<8> (?:{_RULES}|text|configuration)<2> (?:that )?(?:(?:you|they) (?:were|have been|are|ve been) (?:given|configured|told|programmed|trained|initiali[sz]ed)"
     "|(?:the|your) developers? (?:gave|wrote|set)|that you follow)"),
    ("repeat_above", 0.7, "above beginning before top",
     "(?:repeat|print|output|write|copy|echo|reproduce|what was|what is)<3> (?:everything|all|text|words|content|written)<5> (?:above this|above starting|above verbatim|above in|beginning of th(?:is|e) (?:conversation|chat|prompt)"
     "|top of th(?:is|e) (?:conversation|chat|prompt)|before (?:this|my|our) (?:message|line|first|conversation|chat))"),
    ("repeat_above", 0.4, "above", "(?:repeat|print|output|echo)<2> (?:everything|all|text|words)<2> above"),
    ("complete_prompt", 0.55, "system", "(?:my|your) system prompt (?:is|begins|starts|says|reads)"),
    ("verbatim", 0.3, "verbatim word letter", "(?:verbatim|word for word|letter for letter|wortwortlich|wortlich|mot pour mot|palabra por palabra)"),
    ("before_the_chat", 0.25, "before", "before (?:our|this|my|the) (?:chat|conversation|first message|session)<1>"),
    # -- roles without rules
    ("persona_without_rules", 0.65, "restrict rules limit filter guid ethic moral polic constrain censor bound",
     f"(?:you are|you re|act as|pretend|imagine|simulate|roleplay as|role play as|play|become|behave like|answer as|respond as|freed|be)<10> "
     f"(?:ai|a i|assistant|model|chatbots?|bot|gpt|llm|hacker|persona|character|version|machiavellian|you)<8> {_WITHOUT}<3> {_FREE}"),
    ("you_without_rules", 0.55, "restrict rules limit filter guid ethic moral polic constrain censor",
     f"you(?: now| will| can| ll)?(?: have| had| are| re| answer| act| comply| reply| say)<2> {_WITHOUT}<2> (?!doubt|limits? (?:on|to)|restrictions? on){_FREE}(?! on)"),
    ("ai_without_rules", 0.5, "restrict rules limit filter guid ethic moral polic constrain censor", f"(?:as|like) (?:an? )?(?:ai|assistant|model|chatbot|bot) {_WITHOUT}<3> {_FREE}"),
    ("unrestricted_ai", 0.5, "unrestrict unfilter uncensor jailbroken amoral unlimited unaligned",
     "(?:unrestricted|unfiltered|uncensored|jailbroken|unlimited|amoral|unaligned)<3> (?:ai|assistant|model|chatbot|bot|version|gpt|answers?|mode|persona)"),
    ("do_anything_now", 0.45, "anything now", "(?:do|say) anything now"),
    # People are also called Dan and Stan.
    ("known_jailbreak", 0.5, "dan stan aim dude evilbot", "(?:you are now|you re now|du bist (?:jetzt|ab jetzt)|tu es maintenant|ahora eres) (?:dan|stan|dude|aim|evilbot)"),
    ("known_jailbreak", 0.35, "dan stan aim dude evilbot", "(?:you are|you re|pretend(?: to be)?|act as|called|play|du bist|tu es|eres)<4> (?:dan|stan|dude|aim|evilbot|devmode)"),
    ("never_refuses", 0.35, "refuse break character comply never says", "(?:never (?:refuses?|says?<2> can ?not|breaks? character)|break character|if you refuse|always compl(?:y|ies)|says? it can ?not|stay in (?:that |this )?(?:persona|character|it until))"),
    ("two_answers", 0.3, "two both twice", "(?:(?:two|both) (?:answers|responses|replies)|(?:respond|answer|reply)<1> (?:twice|as both))"),
    ("mode_switch", 0.6, "mode", "(?:enter|enable|activate|switch(?: \\w+)? to|turn on|you are(?: now)? in|unlock)<3> (?:jailbreak|god|dan|unrestricted|evil|sudo|opposite|unfiltered) mode"),
    ("developer_mode", 0.4, "mode", "(?:enter|enable|activate|switch(?: \\w+)? to|turn on|you are(?: now)? in|unlock)<3> (?:developer|dev|debug|admin|maintenance) mode"),
    ("safety_off", 0.6, "safety content ethic moderation censor security",
     "(?:disable|turn(?:ing)? off|switch(?:ing)? off|bypass|remove|deactivate|skip|circumvent|lift|suspend|ignore|drop|override|without)<2> (?:all |your |any |the )?"
     "(?:safety|content|ethical|moderation|censorship)<1> (?:filters?|guidelines|guardrails|checks?|polic\\w+|protocols?|restrictions|measures|features|settings)"),
    ("safety_off", 0.5, "safety content ethic filter", "(?:safety|content|ethical|moderation)<1> (?:filters?|guardrails|checks?|protocols?|polic\\w+)<2> (?:disabled|off|turned off|deactivated|removed)"),
    ("no_content_policy", 0.35, "polic filter restrict", "(?:no|without|ignore(?:s)?|break)<2> (?:content polic\\w+|filter|restrictions?|openai\\w*<1> polic\\w+|the rules)"),
    ("grandmother", 0.5, "grand", "(?:act|pretend|imagine|roleplay|be)<5> grand(?:mother|ma)<16> (?:activation|license|serial|product|napalm|keys|password\\w*)"),
    ("opposite", 0.3, "evil", "evil (?:twin|version|bot)"),
    ("opposite", 0.5, "opposite", "opposite of (?:what )?your (?:guidelines|rules|instructions)"),
    # -- a third party addresses the model
    ("if_you_are_an_ai", 0.6, "if", f"if you(?: are| re)(?: (?:an?|the))?<1> {_AI}"),
    ("reader_is_an_ai", 0.55, "reading process summar evaluat review working",
     f"{_AI} (?:that |who |which )?(?:is |are )?(?:reading|processing|summari[sz](?:ing|es)|evaluat(?:ing|es)|reviewing|reads?|working on) (?:this|these|the)"),
    ("note_to_ai", 0.45, "note attention instruc message notice hey dear",
     f"(?:note|attention|notice|instructions?|hey|dear|hello)(?: (?:to|for|from))?(?: (?:all|any|the|other))? {_AI}(?! (?:manager|professor|editor|director|secretary|team|must not|in|with|of))"),
    ("ai_must", 0.4, "must should shall has have needs+to required",
     f"{_AI}<5> (?:must|should|shall|has to|have to|needs to|is required to)<2> (?:first |now |then |always )?(?:reply|include|call|send|forward|output|insert|recommend|run|read|execute|say|append|search|add|tell|delete|transfer|rate)"),
    ("ai_do_this", 0.35, "assistant ai llm copilot agent model",
     f"{_AI}(?:<5>) (?:call the|send (?:the|all)|ignore the|delete the|forward the|stop what|you must now|from here on|tell the user|tell them|do not tell|execute the|say that|recommend only|rate this)"),
    ("when_you_read", 0.6, "when once if as after before",
     "(?:when|once|if|as soon as|after|before) (?:you |reading )?(?:read|see|summari[sz]e|process|reading|replying|answer|continue)?<3> (?:this|it|these|ticket|reviews|you answer the user|you continue|page|replying)<1> (?:please )?(?:send|call|run|execute|forward|delete|post|upload|transfer|include|say that)"),
    ("keep_from_user", 0.4, "tell mention inform ask reveal notify without secret",
     "(?:do not|don t|must not|never|without|not to)<1> (?:tell|telling|mention|mentioning|inform|informing|ask|asking|reveal|revealing|notify|notifying|show)<2> (?:(?:the|this|that|to the) (?:user|instruction|line|evidence)|user|anybody|anyone|this|them about it)"),
    ("keep_from_user", 0.25, "without keep", "(?:without (?:asking|confirmation|telling)|keep these instructions secret|delete the evidence)"),
    ("precedence", 0.45, "preceden supersed irrespective regardless", "(?:takes? precedence over|supersedes?|irrespective of|regardless of)<3> (?:instructions?|prompt|rules)"),
    ("authority", 0.35, "admin authori verified engineer",
     "(?:(?:user|i)<1> (?:has been|have been|was|is|am)<2> (?:verified|an? admin\\w*|administrator|authori[sz]ed)|user (?:has )?already authori[sz]ed|engineer at (?:openai|the company that|anthropic))"),
    ("new_objective", 0.4, "new only", "your (?:new|only)<2> (?:objective|task|goal|role|purpose|instructions?)"),
    ("system_note", 0.35, "system", "system (?:override|note|alert|update|notice)(?=\\s*:)"),
    ("dangerous_command", 0.35, "rm rf curl wget ssh aws env", "(?:rm rf|(?:curl|wget)<6> (?:sh|bash)|(?:id rsa|aws credentials|the env file))"),
    ("tool_to_call", 0.3, "tool", "(?:call|invoke|use|run) the<2> tool<3> (?:with|for|and|to|now)"),
    ("link_only_ours", 0.3, "recommend include", "(?:recommend (?:only|hiring)|has to include the link|as an excellent match|approve this)"),
    # -- data leaves through an address
    ("send_context", 0.5, "https http url query link image address inbox comment user drop",
     "(?:send|post|upload|forward|append|put|encode|include|paste|insert|exfiltrate|transmit)<8> (?:api keys?|(?:the|this|our|full|entire)<1> conversation(?: history)?|chat history|system prompt|secrets|"
     "environment variables|credentials|its contents|all files|inbox|contents? of<2> (?:conversation|env|ssh|inbox|folder|mailbox))<12> (?:https?|url|query string|link|image|address book|inbox|comment|user|drop)"),
    ("send_context", 0.35, "https http url query link image address inbox comment user drop",
     "(?:send|post|upload|forward|append|put|encode|include|paste|insert|exfiltrate|transmit)<8> (?:contents? of|passwords?|emails)<12> (?:https?|url|query string|link|image|address book|inbox|comment|drop)"),
    ("send_context", 0.5, "forward send", "(?:forward|send) (?:it|the last \\w+ emails?|this) to (?:every|all|\\w+ \\w+ (?:out|evil))<2>"),
    ("markdown_image", 0.25, "image", "(?:markdown image|image in markdown|show it as<2> image)"),
    # -- encoded orders
    ("decode_and_obey", 0.6, "decode decrypt unscramble translate base64 rot13",
     "(?:decode|decrypt|unscramble|base64|rot13)<12> (?:and|then)<4> (?:follow|execute|obey|do|run|carry out|comply|act on)<4> (?:it|them|what|instructions?|says?|exactly)"),
    ("obey_result", 0.55, "follow execute obey", "(?:follow|execute|obey|carry out)<2> (?:resulting|decoded|hidden|encoded|decrypted)<1> (?:instructions?|text|commands?|message)"),
    # -- German
    ("de_override", 0.85, "anweisung instruktion regeln vorgabe richtlini befehl",
     "(?:ignorier\\w*|vergiss|vergessen sie|missacht\\w*|verwirf|ubergeh\\w*)(?! nicht)<3> (?:vorherig\\w*|bisherig\\w*|vorig\\w*|obig\\w*|alle|deine?|fruher\\w*|ursprunglich\\w*)<2> (?:anweisung\\w*|instruktion\\w*|regeln|vorgaben|richtlinien|befehle)"),
    ("de_override", 0.75, "alles", "(?:ignorier\\w*|vergiss) alles(?: was)?<1> (?:dir|davor|oben|bisher|vorher)"),
    ("de_reveal", 0.75, "prompt system", "(?:gib|zeig\\w*|nenne?|verrat\\w*|wiederhol\\w*|wie lautet|schreib\\w*|drucke?|offenbar\\w*)<3> dein\\w*<2> (?:system ?prompt\\w*|system prompt|systemnachricht|systemanweisung\\w*)"),
    ("de_reveal", 0.5, "anweisung instruktion regeln", "(?:gib|zeig\\w*|nenne?|verrat\\w*|wiederhol\\w*|wie lauten|schreib\\w*)<3> (?:deine|die)<2> (?:anweisungen|instruktionen)<3> (?:die|du|wortlich|gib|bekommen|aus)"),
    ("de_persona", 0.6, "regeln einschrank richtlini filter grenzen", "(?:du bist|tu so|stell dir vor|spiel\\w*|ab jetzt|von nun an)<8> (?:ohne|keine\\w*)<2> (?:regeln|einschrankung\\w*|richtlinien|filter|grenzen|beschrankung\\w*)"),
    # -- French
    ("fr_override", 0.85, "instruc consigne regles directive",
     "(?:ignore[rz]?|oublie[rz]?|ne (?:tiens|tenez) pas compte|neglige[rz]?|fais abstraction)<3> (?:instructions?|consignes?|regles|directives)<2> (?:precedent\\w*|ci dessus|anterieur\\w*|recues?|donnees?)"),
    ("fr_override", 0.7, "precede dessus", "(?:ignore[rz]?|oublie[rz]?) tout ce qui(?: se trouve)? (?:precede|ci dessus)"),
    ("fr_override", 0.75, "instruc consigne regles", "(?:oublie[rz]?|ignore[rz]?)<1> (?:tes|vos|les)<1> (?:instructions|consignes|regles)<1> (?:que )?(?:tu|vous)"),
    ("fr_reveal", 0.75, "prompt systeme instruc consigne", "(?:affiche\\w*|montre\\w*|revele\\w*|donne\\w*|repete\\w*|ecris|quel est|dis)<3> (?:ton|tes|votre|vos)<1> (?:prompt|instructions (?:systeme|initiales)|message systeme|consignes (?:initiales|systeme))"),
    ("fr_persona", 0.6, "restriction regle filtre limit", "(?:tu es|fais comme si|agis comme|imagine que|comporte toi)<8> (?:sans|aucune?)<2> (?:restrictions?|regles?|filtres?|limites?|limitations?)"),
    # -- Spanish
    ("es_override", 0.85, "instruc reglas normas directrices",
     "(?:ignora|olvida|descarta|desobedece|haz caso omiso de|no hagas caso (?:a|de))<2> (?:tus|las|todas|todas las|estas)<1> (?:instrucciones|reglas|normas|directrices)(?: (?:anteriores|previas|iniciales|de arriba)|(?=[^\\W]*[\\W_]*[.,;\\n]))"),
    ("es_override", 0.75, "anterior dijeron", "(?:(?:olvida|ignora) todo lo anterior|haz caso omiso<3> (?:te dijeron|anterior))"),
    ("es_override", 0.8, "instruc reglas", "(?:ignora|olvida)<1> (?:tus) (?:instrucciones|reglas|normas)"),
    ("es_reveal", 0.75, "prompt mensaje instruc", "(?:muestra\\w*|revela|dime|cual(?:es)? (?:es|son|era|eran)|repite\\w*|imprime|ensena\\w*)<3> (?:(?:tu|tus|el) (?:prompt|mensaje de sistema|mensaje del sistema)|tus instrucciones(?: iniciales)?)"),
    ("es_persona", 0.6, "restric reglas filtro limite censura", "(?:eres|actua\\w*|finge\\w*|imagina\\w*|a partir de ahora)<8> (?:sin|no tienes|ningun\\w*)<1> (?:restricciones|reglas|filtros|limites|censura)"),
    # -- Italian, Portuguese, Dutch
    ("it_override", 0.85, "istruzioni regole", "(?:ignora|dimentica|trascura)<3> (?:istruzioni|regole)<1> (?:precedenti|ricevute|di sopra)"),
    ("pt_override", 0.85, "instruc regras", "(?:ignore|esqueca|desconsidere)<3> (?:instrucoes|regras)<1> (?:anteriores|previas|acima)"),
    ("nl_override", 0.85, "instructies regels", "(?:negeer|vergeet)<2> (?:vorige|eerdere|bovenstaande)<1> (?:instructies|regels)"),
)  # fmt: skip

# For what letters cannot express: delimiters, addresses, scripts without spaces. id, weight, anchors, pattern
SIGNS: tuple[tuple[str, float, tuple[str, ...], str], ...] = (
    ("chat_template", 0.75, ("<|",), r"<\|(?:im_start|start_header_id)\|>\s*(?:system|assistant|developer)|<\|system\|>"),
    ("chat_template", 0.4, ("<|",), r"<\|(?:im_start|im_end|start_header_id|end_header_id|eot_id|end)\|>"),
    ("inst_template", 0.4, ("[inst]", "[/inst]"), r"\[/?inst\]"),
    ("sys_template", 0.5, ("<<sys>>",), r"<<sys>>"),
    ("fake_heading", 0.55, ("system", "developer"),
     r"(?m)^\s{0,3}#{1,6}\s{0,4}(?:system|developer)(?: (?:message|prompt|instructions?))?\s{0,3}:"),
    ("fake_tags", 0.75, ("</",),
     r"</(?:user|input|system_prompt|instructions?|document|data|context|query)>\s{0,20}<(?:system|system_prompt|instructions?|assistant|admin)>"),
    ("fake_tags", 0.6, ("]]>",), r"\]\]>\s{0,20}</\w{1,20}>\s{0,20}<(?:system|instructions?|assistant)"),
    ("fake_tags", 0.35, ("<system",), r"<(?:system|system_prompt)>"),
    ("fake_turns", 0.4, ("assistant:",),
     r"(?:human|user)\s?:[^\n]{0,300}\n\s{0,5}assistant\s?:[^\n]{0,300}\n\s{0,5}(?:human|user|system)\s?:"),
    ("fake_end", 0.35, ("end of",), r"end of (?:the )?(?:user )?(?:input|document|prompt|instructions|context|data)\b"),
    ("fake_system_line", 0.3, ("system:",), r"(?m)^\s{0,3}system:"),
    ("fake_role", 0.25, ("role",), r"""["']role["']\s{0,3}:\s{0,3}["'](?:system|developer)["']\s{0,3},\s{0,3}["']content["']\s{0,3}:\s{0,3}["']you (?:must|have no|will|may)"""),
    ("labelled_answers", 0.4, ("[jailbreak", "[free", "[dan", "[unrestricted", "[evil"), r"\[(?:jailbreak|free|dan|unrestricted|evil)[^\]\n]{0,20}\]"),
    ("hidden_in_html", 0.4, ("<!--",), r"<!--[^>]{0,200}?\b(?:ai|assistants?|llms?|language models?|agents?)\b[^>]{0,200}"),
    ("hidden_in_html", 0.4, ("display:none", "display: none", "[[hidden", "font-size:0"),
     r"(?:display:\s?none|font-size:\s?0)[^\n]{0,60}?\b(?:ai|assistants?|llms?|language models?|agents?)\b|\[\[hidden"),
    ("image_exfiltration", 0.65, ("![",),
     r"!\[[^\]\n]{0,80}\]\(https?://[^\s)]{1,200}?[?=/](?:[^)\n]{0,100}?[\[{<]|[^)\n]{0,60}?(?:conversation|chat_?history|secrets?|api_?key|password|system_?prompt))"),
    ("link_exfiltration", 0.4, ("http",), r"https?://[^\s)]{3,200}?[?&][a-z_]{1,12}=(?:\{\{?|\[|<)\w"),
    ("run_together", 0.8, ("instructions", "guidelines", "rules"),
     r"(?:ignore|disregard|forget)(?:all|any|the|your)?(?:previous|prior|above|earlier)?(?:instructions|rules|guidelines)"),
    ("zh_override", 0.8, ("忽略", "无视", "忘记", "忽視", "無視"), r"(?:忽略|无视|忘记|忽視|無視)[^。\n]{0,12}?(?:指令|指示|提示|规则|規則|說明)"),
    ("zh_reveal", 0.5, ("系统提示", "系統提示"), r"(?:告诉|显示|输出|重复|顯示)[^。\n]{0,10}?(?:系统提示|系統提示)"),
    ("ja_override", 0.8, ("無視", "忘れ"), r"(?:指示|命令|ルール)[^。\n]{0,6}?(?:無視|忘れ)"),
    ("ru_override", 0.85, ("игнориру", "забудь"), r"(?:игнорируй|забудь)\w{0,4}[^.\n]{0,40}?(?:инструкци|указани|правил)"),
    ("ru_reveal", 0.6, ("систем",), r"(?:покажи|выведи|раскрой|повтори)\w{0,4}[^.\n]{0,20}?систем\w{1,4} (?:промпт|инструкц|сообщ)"),
)  # fmt: skip
