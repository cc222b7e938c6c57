"""The microservice chassis: everything a service needs that knows no title, member or play."""
