"""A transformed template as rules read it: its resources by kind and name, and what a function's role is allowed."""
import json

POLLERS = ["Batch", "Realtime", "Stream"]
# Where the brokers are. Only the first two speak to them; the others ask nobody outside AWS, and have no way there.
IN_VPC = ["Express", "Deliver", "Redrive", "Control"]
FUNCTIONS = ["Schedule", *POLLERS, *IN_VPC]
NO_VALUE = {"Ref": "AWS::NoValue"}


def arn(resource):
    return {"Fn::GetAtt": [resource, "Arn"]}


def ref(resource):
    return {"Ref": resource}


def listed(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def text(value):
    return json.dumps(value, sort_keys=True)


class Template:
    def __init__(self, template):
        self.resources = template["Resources"]
        self.parameters = template.get("Parameters", {})
        self.conditions = template.get("Conditions", {})
        self.rules = template.get("Rules", {})
        self.outputs = template.get("Outputs", {})

    def of(self, kind):
        return {name: r.get("Properties", {}) for name, r in self.resources.items() if r["Type"] == kind}

    def properties(self, name):
        return self.resources.get(name, {}).get("Properties", {})

    def function(self, name):
        return self.properties(f"{name}Function")

    def environment(self, name):
        return self.function(name).get("Environment", {}).get("Variables", {})

    def statements(self, name):
        """All that a function's role is allowed and denied, policies that it shares with others too."""
        role = self.properties(f"{name}FunctionRole")
        documents = [policy["PolicyDocument"] for policy in role.get("Policies", [])]
        for policy in role.get("ManagedPolicyArns", []):
            policy = policy["Fn::If"][1] if isinstance(policy, dict) and "Fn::If" in policy else policy
            if isinstance(policy, dict) and "Ref" in policy:
                documents.append(self.properties(policy["Ref"]).get("PolicyDocument", {}))
        statements = [statement for document in documents for statement in listed(document.get("Statement"))]
        # One that a condition may leave out counts as it is when it is there.
        return [statement["Fn::If"][1] if "Fn::If" in statement else statement for statement in statements]

    def allows(self, name, action, resource):
        """Whether a statement of the role allows the action on just this resource; what SAM itself attaches is not looked at."""
        return any(
            statement["Effect"] == "Allow" and action in listed(statement.get("Action"))
            and text(resource) in [text(each) for each in listed(statement.get("Resource"))]
            for statement in self.statements(name)
        )

    def mappings(self, name):
        owners = [f"{name}Function"]
        for properties in self.of("AWS::Lambda::EventSourceMapping").values():
            target = text(properties.get("FunctionName"))
            if any(f'"{owner}"' in target or f'"{owner}Aliaslive"' in target for owner in owners):
                yield properties
