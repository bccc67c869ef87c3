package access

// Cheap makes a's password hashes cost next to nothing, as those of years ago.
func (a *Access) Cheap() { a.passwords.cost = cost{memory: 64, time: 1, lanes: 1} }

// Dear makes them cost more than Cheap's.
func (a *Access) Dear() { a.passwords.cost = cost{memory: 128, time: 2, lanes: 1} }
