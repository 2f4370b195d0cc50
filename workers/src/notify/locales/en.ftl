# The confirmation of an order, sent when its tickets exist.
# Numbers, dates and amounts are put together here, so that a language is one file.

subject = Your tickets: { $event }
subject-many = Your tickets: { $event } and { $others } more

greeting = Hello { $name },
intro = { $count ->
    [one] Your order is confirmed. Here is your ticket.
   *[other] Your order is confirmed. Here are your { $count } tickets.
}
order = Order
total = Total paid
venue = Venue
category = Category
category-standard = { $category }
category-accessible = { $category }, wheelchair place
category-companion = { $category }, companion of the wheelchair place
holder = Holder
ticket = Ticket no.
code = Code
code-hint = Show the code at the gate. Whoever has it can enter: keep it to yourself.
footer = This message was sent automatically. Please do not answer it.

local-time = { $date }, { $time } (local time)
date = { $weekday ->
    [1] Monday
    [2] Tuesday
    [3] Wednesday
    [4] Thursday
    [5] Friday
    [6] Saturday
   *[7] Sunday
} { $day } { $month ->
    [1] January
    [2] February
    [3] March
    [4] April
    [5] May
    [6] June
    [7] July
    [8] August
    [9] September
    [10] October
    [11] November
   *[12] December
} { $year }
time = { $hour-two-digits }:{ $minute }

digit-group = ,
decimal-mark = .
money = { $symbol }{ $amount }
