"""What a request to AWS asks for: which operation it is, and which IAM actions on which resources that takes. Pure."""
