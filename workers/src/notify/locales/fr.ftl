# La confirmation d'une commande, envoyée quand ses billets existent.

subject = Vos billets{ "\u00A0" }: { $event }
subject-many = Vos billets{ "\u00A0" }: { $event } et { $others } { $others ->
    [one] autre épreuve
   *[other] autres épreuves
}

greeting = Bonjour { $name },
intro = { $count ->
    [one] Votre commande est confirmée. Voici votre billet.
   *[other] Votre commande est confirmée. Voici vos { $count } billets.
}
order = Commande
total = Total payé
venue = Lieu
category = Catégorie
category-standard = { $category }
category-accessible = { $category }, place en fauteuil roulant
category-companion = { $category }, accompagnateur de la place en fauteuil roulant
holder = Titulaire
ticket = Billet n°
code = Code
code-hint = Présentez le code à l'entrée. Quiconque le possède peut entrer{ "\u00A0" }: gardez-le pour vous.
footer = Ce message a été envoyé automatiquement. Merci de ne pas y répondre.

local-time = { $date } à { $time } (heure locale)
date = { $weekday ->
    [1] lundi
    [2] mardi
    [3] mercredi
    [4] jeudi
    [5] vendredi
    [6] samedi
   *[7] dimanche
} { $day ->
    [1] 1er
   *[other] { $day }
} { $month ->
    [1] janvier
    [2] février
    [3] mars
    [4] avril
    [5] mai
    [6] juin
    [7] juillet
    [8] août
    [9] septembre
    [10] octobre
    [11] novembre
   *[12] décembre
} { $year }
time = { $hour } h { $minute }

digit-group = { "\u202F" }
decimal-mark = ,
money = { $amount }{ "\u00A0" }{ $symbol }
