"""What interfaces over HTTP have in common: their requests and answers as structs, and the OpenAPI document of them."""
