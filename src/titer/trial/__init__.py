"""One model, one attack, a typed result; and one model, one defence."""
